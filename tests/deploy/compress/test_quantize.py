"""rcdp compress --bits 8: plain rounding, and the training with rounded weights that follows if it costs too much."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from trainings import Training, ended, train_together

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.deploy.compress import quantize
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.quantization import rounded_model
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline.compression import compress
from rcdp_hpc.reservoir.connection import reservoir_matrices
from rcdp_hpc.reservoir.matrix_files import save_matrices

SMALL = (
    "data.max_samples=300", "data.balance=none", "reservoir.nodes=30", "reservoir.kernel=dense-fp32",
    "reservoir.sequence=rows", "reservoir.states=2", "training.batch=24", "search.generations=0", "training.epochs=10",
    "training.threads=1", "run.progress=false", "readout.hidden=24", "readout.outputs=16", "training.baseline=false",
    "optimizer.learning_rate=0.01",
)  # fmt: skip
READOUT = {"output_map.weight", "inner.weight", "outer.weight", "scores.weight"}
DICTIONARY = ("extractor.kind=dictionary", "extractor.patch=3", "extractor.atoms=8", "extractor.pool=3",
              "extractor.patches=500", "readout.kind=ridge")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Runs whose models have matrices in all places."""
    folder = tmp_path_factory.mktemp("quantize")
    save_matrices(folder / "own.npz", reservoir_matrices(ReservoirSection(nodes=30, density=0.2), 8))
    network = str(folder / "network")
    own = (*SMALL, f"reservoir.matrices={folder / 'own.npz'}", "readout.kind=ridge")
    stages = ("train", "evaluate")
    train_together(0, [
        Training(network, SMALL, stages=("prepare", *stages)),
        Training(str(folder / "matrices"), own, source=network, stages=stages),
        Training(str(folder / "dictionary"), (*SMALL, *DICTIONARY), source=network, stages=stages),
    ])  # fmt: skip
    for name in ("network", "matrices", "dictionary"):
        ended(folder / name)
    return folder


def accuracy(run: Path, split: str = "validation") -> float:
    shards = ShardReader(run / "shards")
    rows = shards.read(split, 0, shards.rows(split))
    predicted = TrainedModel.load(run / "train/model.pt").probabilities(rows.x, scaled=True).argmax(1)
    return float((predicted == rows.y).mean())


def recorded(run: Path) -> dict:
    return json.loads((run / "state/train.json").read_text())["result"]


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("network", READOUT),
        ("matrices", {"linear.weight", "matrices/input", "matrices/recurrent_data"}),
        ("dictionary", {"linear.weight", "learned/filters"}),
    ],
)
def test_the_accuracy_is_that_of_the_rounded_matrices(folder, tmp_path, monkeypatch, name, tensors):
    monkeypatch.setattr(quantize, "MOST_COST", 1.0)
    new = tmp_path / "new"
    result = compress(folder / name, new, bits=8)
    before, after = (ModelFile.read(run / "train/model.pt") for run in (folder / name, new))
    assert set(after.quantized) == tensors
    for key in tensors & set(before.weights):
        codes = after.quantized[key]
        error = np.abs(after.weights[key].numpy() - before.weights[key].numpy()).max(axis=1)
        assert (error <= codes.scale / 2 * (1 + 1e-6)).all()
    if before.matrices is not None:
        assert not np.array_equal(before.matrices.input, after.matrices.input)
        largest = np.abs(before.matrices.input).max()
        np.testing.assert_allclose(after.matrices.input, before.matrices.input, atol=largest / 250)
    cost = accuracy(folder / name) - accuracy(new)
    assert recorded(new)["validation_accuracy"] == pytest.approx(result.before.validation - cost)
    assert result.after.scores["accuracy"] == accuracy(new, "test")
    again = rounded_model(after)
    assert all(again.quantized[key] is after.quantized[key] for key in tensors)
    # 3 bytes fewer for each number, and about as many more for the scales.
    codes = sum(one.codes.size for one in after.quantized.values())
    assert result.before.size.bytes - result.after.size.bytes > 2 * codes


def test_a_reservoir_with_fewer_nodes_is_rounded(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "MOST_COST", 1.0)
    new = tmp_path / "new"
    result = compress(folder / "matrices", new, keep=0.5, unit="nodes", bits=8)
    file = ModelFile.read(new / "train/model.pt")
    assert file.config.reservoir.nodes == 15
    assert file.quantized["matrices/input"].codes.shape == (15, 8)
    assert result.after.scores["accuracy"] == accuracy(new, "test")


def test_a_reservoir_from_a_seed_costs_nothing(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(quantize, "MOST_COST", 1.0)
    with caplog.at_level("INFO"):
        compress(folder / "network", tmp_path / "new", bits=8)
    assert "the reservoir of 30 nodes follows from reservoir.seed = 1: 0 bytes stored" in caplog.text
    count = sum(ModelFile.read(folder / "network/train/model.pt").weights[name].numel() for name in READOUT)
    assert f"8 bits: {count:,} numbers with {16 + 24 + 24 + 10} scales" in caplog.text


def test_rounding_that_costs_too_much_is_followed_by_a_training(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "MOST_COST", -1.0)
    new = tmp_path / "new"
    compress(folder / "network", new, bits=8)
    file = ModelFile.read(new / "train/model.pt")
    assert set(file.quantized) == READOUT
    assert (file.config.training.weight_bits, file.config.training.epochs) == (8, 1)
    assert file.config.training.initial == str(new / "float32.pt")
    assert recorded(new)["validation_accuracy"] == accuracy(new)
    # The same call finds the training finished.
    content = (new / "train/model.pt").read_bytes()
    compress(folder / "network", new, bits=8)
    assert (new / "train/model.pt").read_bytes() == content
    with pytest.raises(InputError, match="of another model, or with other options, began here"):
        compress(folder / "network", new, bits=8, changes={"training.epochs": 3})


def test_pruned_weights_stay_zero_in_the_training_with_rounded_weights(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "MOST_COST", -1.0)
    new = tmp_path / "new"
    compress(folder / "network", new, keep=0.3, bits=8)
    (before,) = new.glob("train.before-*/train/model.pt")
    first, second = ModelFile.read(before), ModelFile.read(new / "train/model.pt")
    zeros = [(first.weights[name] == 0, second.weights[name] == 0) for name in READOUT]
    assert sum(int(one.sum()) for one, _ in zeros) > 0.6 * sum(one.numel() for one, _ in zeros)
    assert all(bool((other | ~one).all()) for one, other in zeros)
    assert set(second.quantized) == READOUT


def test_a_solved_readout_is_rounded_with_a_warning_if_that_costs_too_much(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(quantize, "MOST_COST", -1.0)
    compress(folder / "dictionary", tmp_path / "new", bits=8)
    assert "readout.kind = 'ridge' is solved" in caplog.text
