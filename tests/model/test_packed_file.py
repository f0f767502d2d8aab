"""Model files whose tensors are packed: what is read, how large they are, and every altered one is refused."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch

from rcdp_hpc.cli.commands import main
from rcdp_hpc.config import load_config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import DataDamagedError, RcdpError, StageFailedError
from rcdp_hpc.model import checkpoint, packed_fields
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.packing import Packing, Quantized
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.connection import reservoir_matrices
from rcdp_hpc.reservoir.matrix_files import save_matrices

SETTINGS = (
    "search.generations=0", "data.class_keep_fractions=[]", "reservoir.nodes=60", "reservoir.kernel=dense-fp32",
    "training.epochs=1", "training.threads=1", "training.baseline=false", "readout.outputs=30", "readout.hidden=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    run_stages(["prepare", "train"], load_config("digits", SETTINGS), out)
    return out


@pytest.fixture(scope="module")
def model(run):
    return ModelFile.read(run / "train/model.pt")


@pytest.fixture
def write(run, model, tmp_path):
    """Return a function that writes the model with other weights, packed, and returns its path."""

    def written(weights=None, name="model.pt", **options):
        path = tmp_path / name
        ModelFile.write(path, model.config, ShardReader(run / "shards"), weights or model.weights, **options)
        return path

    return written


def pruned(model, keep: float) -> dict[str, torch.Tensor]:
    """Return the weights with the smallest of each matrix set to 0."""
    weights = {}
    for name, value in model.weights.items():
        weights[name] = value.clone()
        if value.ndim == 2:
            limit = value.abs().flatten().kthvalue(int((1 - keep) * value.numel())).values
            weights[name][value.abs() <= limit] = 0
    return weights


def refused(path, kind=DataDamagedError) -> str:
    with pytest.raises(RcdpError) as found:
        ModelFile.read(path)
    assert type(found.value) is kind, found.value
    message = str(found.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def probabilities(path) -> np.ndarray:
    samples = np.random.default_rng(3).random((40, 8, 8))
    return TrainedModel.load(path).probabilities(samples, scaled=True)


def test_a_dense_model_is_written_as_before(write, run, model):
    assert "packed" not in checkpoint.load(write())
    assert not model.quantized


@pytest.mark.parametrize("packing", [None, Packing(32)])
def test_a_sparse_model_is_smaller_and_the_same(write, model, packing):
    weights = pruned(model, 0.1)
    path = write(weights, packing=packing)
    read = ModelFile.read(path)
    assert read.weights.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(read.weights[name], value)
        assert read.weights[name].dtype == value.dtype
    dense = write(weights, "dense.pt", packing=Packing(32, sparse=False))
    assert np.array_equal(probabilities(path), probabilities(dense))
    saved = sum(value.numel() * 4 for value in weights.values() if value.ndim == 2)
    assert path.stat().st_size < dense.stat().st_size - 0.8 * saved


def test_the_default_packs_only_what_becomes_smaller(write, model):
    half = {name: value.clone() for name, value in model.weights.items()}
    half["scores.bias"].zero_()
    assert "packed" not in checkpoint.load(write(half))


@pytest.mark.parametrize(("bits", "tolerance"), [(16, 2e-3), (8, 0.2)])
def test_fewer_bits_change_the_probabilities_by_little(write, model, bits, tolerance):
    path = write(packing=Packing(bits))
    assert np.abs(probabilities(path) - probabilities(write(name="other.pt"))).max() < tolerance
    read = ModelFile.read(path)
    matrices = {name for name, value in model.weights.items() if value.ndim == 2}
    assert set(read.quantized) == (matrices if bits == 8 else set())
    for name, quantized in read.quantized.items():
        assert np.array_equal(read.weights[name].numpy(), quantized.dense())
    assert path.stat().st_size < bits / 32 * write(name="other.pt").stat().st_size + 9000


def test_given_codes_are_stored(write, model):
    codes = Quantized.of(model.weights["scores.weight"].numpy(), axis=1)
    read = ModelFile.read(write(quantized={"scores.weight": codes}))
    assert set(read.quantized) == {"scores.weight"}
    assert np.array_equal(read.quantized["scores.weight"].codes, codes.codes)
    assert torch.equal(read.weights["inner.weight"], model.weights["inner.weight"])
    with pytest.raises(ValueError, match=r"scores\.wait is not a tensor"):
        write(quantized={"scores.wait": codes})


def test_the_matrices_of_the_user_are_packed_too(run, model, tmp_path):
    given = reservoir_matrices(model.config.reservoir, 16)
    save_matrices(tmp_path / "matrices.npz", given)
    config = load_config("digits", (*SETTINGS, f"reservoir.matrices={tmp_path / 'matrices.npz'}"))
    codes = Quantized.of(given.input.astype(np.float32))
    shards = ShardReader(run / "shards")
    ModelFile.write(tmp_path / "model.pt", config, shards, model.weights, quantized={"matrices/input": codes})
    read = ModelFile.read(tmp_path / "model.pt")
    assert read.matrices is not None
    assert np.array_equal(read.matrices.input, codes.dense().astype(np.float64))
    assert np.array_equal(read.matrices.recurrent.toarray(), given.recurrent.toarray())
    assert set(read.quantized) == {"matrices/input"}


def test_a_flipped_byte_and_a_truncated_file_are_refused(write, model):
    path = write(pruned(model, 0.2), packing=Packing(8))
    content = path.read_bytes()
    for place in [*range(0, len(content), len(content) // 150), len(content) - 1]:
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        refused(path)
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        refused(path)
    path.write_bytes(content)
    ModelFile.read(path)


def changed(path, change) -> None:
    """Write a model file with other content and a correct digest."""
    content = checkpoint.load(path)
    del content["format"]
    change(content)
    checkpoint.save(path, content)


def listed(content, **changes) -> None:
    entries = json.loads(content["packed"]["layout"])
    entries[0].update(changes)
    content["packed"]["layout"] = json.dumps(entries)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(packed=[]), "packed is not a table"),
        (lambda content: content["packed"].pop("layout"), r"packed\.layout is not present"),
        (lambda content: content["packed"].update(bytes=b"abc"), r"packed\.bytes is not a list of bytes"),
        (lambda content: content["packed"].update(bytes=torch.zeros(5)), r"packed\.bytes is not a list of bytes"),
        (lambda content: content["packed"].update(bytes=torch.zeros(5, dtype=torch.uint8)), r"packed\.bytes is not of"),
        (lambda content: content["packed"].update(layout="[]"), r"packed\.bytes is not of"),
        (lambda content: content["packed"].update(layout="{}"), r"packed\.layout is not of"),
        (lambda content: listed(content, name="code/x"), r"packed\.layout is not a list of tensors that occur once"),
        (lambda content: listed(content, name="x"), r"packed\.layout is not a list of tensors that occur once"),
        (lambda content: content["weights"].update({"scores.bias": torch.zeros(3)}), "occur once"),
        (lambda content: content.pop("weights"), "its field weights is not present"),
    ],
)  # fmt: skip
def test_crafted_content_is_refused(write, change, message):
    path = write(packing=Packing(8))
    changed(path, change)
    assert re.search(message, refused(path))


def test_values_that_are_not_finite_are_refused(write, model):
    weights = {name: value.clone() for name, value in model.weights.items()}
    weights["scores.bias"][0] = torch.nan
    assert "NaN or infinite" in refused(write(weights, packing=Packing(32)))


def test_tensors_of_another_shape_are_refused(write):
    path = write(packing=Packing(32))
    changed(path, lambda content: listed(content, shape=[1, *json.loads(content["packed"]["layout"])[0]["shape"]]))
    with pytest.raises(DataDamagedError, match="has the shape"):
        TrainedModel.load(path)


def test_tensors_larger_than_the_memory_are_refused_before_memory_is_allocated(write, monkeypatch):
    path = write(packing=Packing(32))
    monkeypatch.setattr(packed_fields, "machine_memory", lambda: 1000)
    assert "If you trust the file" in refused(path, StageFailedError)


def test_a_packed_model_is_evaluated_and_predicts(write, run, model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    shutil.copy(write(pruned(model, 0.3), packing=Packing(8)), copy / "train/model.pt")
    assert main(["evaluate", "--out", str(copy)]) == 0
    samples, file = str(tmp_path / "new.npy"), str(copy / "train/model.pt")
    np.save(samples, np.random.default_rng(3).random((5, 8, 8)))
    assert main(["predict", file, samples, "--to", str(tmp_path / "p.csv")]) == 0
