"""Distillation: the probabilities of a teacher in the training stage."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from trainings import Training, ended, error_of, flip, messages, train_together
from whole_runs import curve

from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import InputError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.training.teacher_models import refuse_other_samples

SMALL = (
    "data.max_samples=300", "data.balance=none", "reservoir.nodes=30", "reservoir.kernel=dense-fp32",
    "training.batch=24", "schedule.kind=constant", "search.generations=0", "training.epochs=4", "training.threads=1",
    "training.baseline=false", "run.progress=false", "readout.hidden=10", "readout.outputs=8",
    "optimizer.learning_rate=0.01",
)  # fmt: skip
RIDGE = ("readout.kind=ridge", "training.baseline=false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A ridge readout and a network as teachers, and the student of both."""
    folder = tmp_path_factory.mktemp("teacher")
    ridge, network = str(folder / "ridge"), str(folder / "network")
    train_together(0, [
        Training(ridge, (*SMALL, *RIDGE), stages=("prepare", "train")),
        Training(network, (*SMALL, "readout.hidden=24"), source=ridge),
        Training(str(folder / "student"), student(folder), source=ridge),
    ])  # fmt: skip
    for name in ("ridge", "network", "student"):
        ended(folder / name)
    return folder


def student(folder: Path, *settings: str) -> tuple[str, ...]:
    return (*SMALL, f"loss.teacher=[{folder / 'ridge'}, {folder / 'network/train/model.pt'}]", *settings)


def trained(out: Path, settings: tuple[str, ...], source: Path) -> Path:
    train_together(0, [Training(str(out), settings, source=str(source))])
    return out


def message(out: Path, settings: tuple[str, ...], source: Path) -> str:
    return error_of(trained(out, settings, source))["message"]


def test_the_targets_are_the_mean_of_the_teachers_probabilities(folder):
    shards = ShardReader(folder / "ridge/shards")
    rows = shards.read("train", 0, shards.rows("train"))
    models = [TrainedModel.load(folder / name / "train/model.pt") for name in ("ridge", "network")]
    mean = sum(model.probabilities(rows.x, scaled=True).astype(np.float64) for model in models) / 2
    logs = checkpoint.load(folder / "student/train/teacher.pt")["scores"]["logs"]
    np.testing.assert_allclose(logs.exp().numpy(), mean, rtol=1e-5, atol=1e-12)
    right = 100 * (mean.argmax(1) == rows.y).mean()
    assert f"it has {right:.2f} % of them right" in messages(folder / "student")


def test_the_student_is_another_network_than_without_a_teacher(folder, tmp_path):
    alone = trained(tmp_path / "alone", SMALL, folder / "ridge")
    losses = [curve(out, ["train_loss"]) for out in (folder / "student", alone)]
    assert not np.array_equal(*losses)
    ModelFile.read(folder / "student/train/model.pt")


@pytest.mark.mpi
def test_two_ranks_compute_the_same_targets_and_train_as_one(folder, tmp_path):
    out = tmp_path / "two"
    exchanged = tmp_path / "exchanged"
    settings = student(folder, "training.batch=12")
    train_together(2, [
        Training(str(out), settings, "torch", str(folder / "ridge")),
        Training(str(exchanged), (*settings, "partition.reshuffle_every=1"), "torch", str(folder / "ridge")),
    ])  # fmt: skip
    one, two = (checkpoint.load(run / "train/teacher.pt") for run in (folder / "student", ended(out)))
    assert torch.equal(one["scores"]["logs"], two["scores"]["logs"])
    np.testing.assert_allclose(curve(out), curve(folder / "student"), rtol=2e-3)
    alone = trained(tmp_path / "alone", student(folder, "partition.reshuffle_every=1"), folder / "ridge")
    np.testing.assert_allclose(curve(ended(exchanged)), curve(alone), rtol=2e-3)


def test_a_resumed_training_needs_no_teacher_and_has_the_same_bits(folder, tmp_path):
    copies = tmp_path / "teachers"
    for name in ("ridge", "network"):
        (copies / name / "train").mkdir(parents=True)
        shutil.copy(folder / name / "train/model.pt", copies / name / "train/model.pt")
    out = trained(tmp_path / "resumed", student(copies, "training.epochs=2"), folder / "ridge")
    shutil.rmtree(copies / "network")
    trained(out, student(copies), folder / "ridge")
    assert "continues with the probabilities that it has" in messages(ended(out))
    np.testing.assert_array_equal(curve(out), curve(folder / "student"))
    # A teacher with another content is refused, a damaged file is computed again only with its teachers.
    shutil.copytree(folder / "ridge", copies / "network", dirs_exist_ok=True)
    assert "not the model that this training started with" in message(
        out, student(copies, "training.epochs=5"), folder / "ridge"
    )
    shutil.rmtree(copies / "network")
    flip(out / "train/teacher.pt")
    assert "The teacher is needed to compute it again" in message(
        out, student(copies, "training.epochs=5"), folder / "ridge"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": list("abcdefghij")}, "its classes are 0, 1, 2, 3, 4 and 5 more, and those of here are a, b, c, d"),
        ({"sample_shape": (8, 9)}, r"trained on samples of the shape \(8, 8\), and those of here have \(8, 9\)"),
        ({"scale": 2.0}, "scaled or standardised in another way"),
        ({"index": {"standardization": {"method": "standard", "center": [0.5], "deviation": [2.0], "fill": None}}},
         "scaled or standardised in another way"),
    ],
)  # fmt: skip
def test_a_teacher_that_does_not_fit_is_refused(folder, changes, expected):
    file = ModelFile.read(folder / "network/train/model.pt")
    fitting = {
        "classes": file.classes, "sample_shape": file.sample_shape, "scale": file.scale, "directory": "here",
        "index": {"standardization": None}, "digest": file.shards, "layout": SimpleNamespace(has_lengths=False),
    }  # fmt: skip
    refuse_other_samples("mine", file, SimpleNamespace(**fitting))
    with pytest.raises(InputError, match=f"loss.teacher = mine.*{expected}"):
        refuse_other_samples("mine", file, SimpleNamespace(**{**fitting, **changes}))


def test_a_teacher_of_other_shards_is_reported(folder, caplog):
    file = ModelFile.read(folder / "network/train/model.pt")
    shards = ShardReader(folder / "ridge/shards")
    with caplog.at_level("WARNING"):
        refuse_other_samples("mine", file, shards)
        assert not caplog.messages
        refuse_other_samples("mine", replace(file, shards="0" * 64), shards)
    assert "was trained on other shards" in caplog.text


def test_a_teacher_is_checked_before_the_data_are_prepared(folder, tmp_path):
    teachers = (f"loss.teacher={folder / 'network'}", "data.source=npz", f"data.path={tmp_path / 'mine.npz'}")
    np.savez(tmp_path / "mine.npz", x=np.zeros((40, 8, 8), np.float32), y=np.arange(40) % 4)
    train_together(0, [Training(str(tmp_path / "run"), (*SMALL, *teachers), stages=("prepare",))])
    assert (
        "those of these data are 0, 1, 2, 3: name a model of the same classes" in error_of(tmp_path / "run")["message"]
    )
    assert not (tmp_path / "run/shards/index.json").exists()


def test_a_missing_teacher_is_refused(folder, tmp_path):
    text = message(tmp_path / "one", (*SMALL, "loss.teacher=/nowhere/model.pt"), folder / "ridge")
    assert "there is no model /nowhere/model.pt" in text
    (tmp_path / "untrained").mkdir()
    text = message(tmp_path / "two", (*SMALL, f"loss.teacher={tmp_path / 'untrained'}"), folder / "ridge")
    assert "train it first" in text


def test_a_training_with_8_bits_saves_the_weights_that_it_was_validated_with(folder, tmp_path):
    out = trained(tmp_path / "rounded", (*SMALL, "training.weight_bits=8"), folder / "ridge")
    file = ModelFile.read(ended(out) / "train/model.pt")
    assert set(file.quantized) == {"output_map.weight", "inner.weight", "outer.weight", "scores.weight"}
    shards = ShardReader(out / "shards")
    rows = shards.read("validation", 0, shards.rows("validation"))
    correct = (TrainedModel(file).probabilities(rows.x, scaled=True).argmax(1) == rows.y).mean()
    result = json.loads((out / "state/train.json").read_text())["result"]
    assert correct == pytest.approx(result["validation_accuracy"])
    # The checkpoint has the weights before the rounding, and writes the same model again.
    content = (out / "train/model.pt").read_bytes()
    flip(out / "train/model.pt")
    trained(out, (*SMALL, "training.weight_bits=8"), folder / "ridge")
    assert (out / "train/model.pt").read_bytes() == content
