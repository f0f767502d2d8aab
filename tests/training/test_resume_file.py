"""Resuming from checkpoints: their size, the files that they refer to, and content that nobody's training wrote."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict

import pytest
import torch
from whole_runs import curve, lines

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.pipeline import stages
from rcdp_hpc.training.resume_file import read_checkpoint

SETTINGS = (
    "search.generations=0", "data.class_keep_fractions=[]", "reservoir.nodes=20", "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=64", "readout.outputs=8", "training.batch=256", "training.threads=1",
    "schedule.kind=constant", "training.baseline=false", "optimizer.ema=0.9", "training.patience=1000",
)  # fmt: skip


def train(out, epochs: int):
    return stages.train(load_config("digits", [*SETTINGS, f"training.epochs={epochs}"]), out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training of three epochs."""
    out = tmp_path_factory.mktemp("resumed") / "run"
    stages.prepare(load_config("digits", SETTINGS), out)
    train(out, 3)
    return out


@pytest.fixture
def out(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def state(out) -> dict:
    return checkpoint.load(out / "train/last.pt")["trainer"]


def test_a_checkpoint_does_not_grow_with_the_epochs(out):
    before = (out / "train/last.pt").stat().st_size
    train(out, 30)
    assert len(lines(out / "train/metrics.jsonl")) == 30
    assert (out / "train/last.pt").stat().st_size < before + 100


def test_a_resume_has_the_same_bits_and_the_same_history(trained, out, tmp_path):
    straight = tmp_path / "straight"
    shutil.copytree(trained, straight, ignore=shutil.ignore_patterns("train"))
    train(straight, 6)
    # What was appended after the checkpoint, as by a job that was killed.
    with open(out / "train/metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "lost"')
    result = train(out, 6)
    assert curve(out).tolist() == curve(straight).tolist()
    assert (out / "train/class_counts.jsonl").read_text() == (straight / "train/class_counts.jsonl").read_text()
    ours, theirs = state(out), state(straight)
    assert all(torch.equal(value, theirs["network"][name]) for name, value in ours["network"].items())
    assert result["validation_loss"] == min(line["validation_loss"] for line in lines(out / "train/metrics.jsonl"))
    assert len(result["compute_seconds"]) == 1


@pytest.mark.parametrize("damage", ["missing", "empty", "a line", "binary", "folder", "sealed again"])
def test_a_damaged_history_is_reported_and_changes_no_weights(damage, trained, out, tmp_path, caplog):
    straight = shutil.copytree(trained, tmp_path / "straight")
    train(straight, 4)
    file = out / "train/metrics.jsonl"
    rows, left = file.read_bytes().splitlines(keepends=True), 0
    if damage == "missing":
        file.unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "a line":
        file.write_bytes(b"".join([rows[0], rows[1].replace(b"1", b"2", 1), rows[2]]))
        left = 2
    elif damage == "binary":
        file.write_bytes(bytes(range(256)))
    elif damage == "folder":
        file.unlink()
        file.mkdir()
        (file / "x").touch()
    elif damage == "sealed again":
        file.write_bytes(rows[0] + rows[2] + rows[1])
        left = 3
    with caplog.at_level("WARNING", logger="rcdp_hpc"):
        if damage == "folder":
            with pytest.raises(Exception, match=r"metrics\.jsonl"):
                train(out, 4)
            return
        train(out, 4)
    assert f"{left} of the 3 epochs until then are left" in caplog.text
    assert [line["epoch"] for line in lines(file)][-1] == 3
    assert len(lines(file)) == left + 1
    ours, theirs = state(out), state(straight)
    assert all(torch.equal(value, theirs["network"][name]) for name, value in ours["network"].items())


def test_the_previous_checkpoint_has_its_own_history(out, caplog):
    train(out, 5)
    damaged = bytearray((out / "train/last.pt").read_bytes())
    damaged[1000] ^= 1
    (out / "train/last.pt").write_bytes(damaged)
    with caplog.at_level("WARNING", logger="rcdp_hpc"):
        train(out, 5)
    assert "Resuming from an earlier checkpoint, last.pt.previous" in caplog.text
    assert "until then are left" not in caplog.text
    assert [line["epoch"] for line in lines(out / "train/metrics.jsonl")] == list(range(5))


def resealed(out, change) -> None:
    content = checkpoint.load(out / "train/last.pt")
    del content["format"]
    change(content)
    checkpoint.save(out / "train/last.pt", content)
    (out / "train/last.pt.previous").unlink()


def refused(out) -> str:
    with pytest.raises(DataDamagedError) as found:
        train(out, 5)
    message = str(found.value)
    assert message.startswith(f"{out}/train/last.pt: ")
    assert message.endswith("to train again.")
    assert "\n" not in message
    return message


def test_every_missing_field_is_named(trained, tmp_path):
    saved = checkpoint.load(trained / "train/last.pt")
    places = [(name,) for name in saved if name != "format"] + [("trainer", name) for name in saved["trainer"]]
    places += [("trainer", "position", name) for name in saved["trainer"]["position"]]
    places += [("history", name) for name in saved["history"]]
    assert len(places) > 35
    for place in places:
        out = tmp_path / "_".join(place)
        (out / "train").mkdir(parents=True)
        for name in ("shards", "config.toml"):
            (out / name).symlink_to(trained / name)
        shutil.copy(trained / "train/last.pt", out / "train/last.pt")

        def change(content, place=place):
            for name in place[:-1]:
                content = content[name]
            del content[place[-1]]

        resealed(out, change)
        assert place[-1] in refused(out) or place[-2] == "position"


def test_a_position_of_an_earlier_version_is_completed(out):
    def change(content):
        for name in ("best_fitness", "least_loss", "improved_epoch"):
            del content["trainer"]["position"][name]

    saved = checkpoint.load(out / "train/last.pt")["trainer"]["position"]
    resealed(out, change)
    assert asdict(read_checkpoint(out / "train").trainer.position) == saved


WRONG = {
    "ranks": [0, -1, 1.0, "1", None],
    "threads": [0, "many"],
    "global_batch": [0, None],
    "partition_count": [0, 2.5],
    "settings": ["", "[]", 3],
    "code": ["", "[]", None],
    "limits": ["no JSON"],
    "load_balance": ["{}", '{"kind": "equal", "speeds": [0]}'],
    "best": ["[]"],
    "history": [None, {}, {"metrics": {"lines": -1, "sha256": ""}}],
    "trainer": [None, {}],
}


@pytest.mark.parametrize("name", WRONG)
def test_fields_of_another_form_are_refused(name, trained, out):
    for value in WRONG[name]:
        shutil.copy(trained / "train/last.pt", out / "train/last.pt")
        shutil.copy(trained / "train/last.pt", out / "train/last.pt.previous")
        resealed(out, lambda content, value=value: content.update({name: value}))
        refused(out)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", {}),
        ("best_weights", {"w": torch.zeros(2)}),
        ("average", {}),
        ("optimizer", {}),
        ("optimizer", {"state": {}, "param_groups": []}),
        ("learning_rate", {"reduction": math.nan, "schedule": {}}),
        ("learning_rate", {"reduction": 1.0, "schedule": {"waited": "long"}}),
        ("learning_rate", []),
        ("loss_scale", [1.0]),
        ("partial_sums", []),
        ("partial_sums", [[0.0, 0.0]]),
        ("partial_sums", [["a", "b"]]),
        ("position", {"epoch": 1}),
        ("replicas", None),
        ("replicas", [3]),
    ],
)
def test_a_state_of_another_training_is_refused(name, value, out):
    resealed(out, lambda content: content["trainer"].update({name: value}))
    refused(out)


def test_moments_of_another_shape_and_weights_that_are_not_finite_are_refused(trained, out):
    def other_moments(content):
        moments = next(iter(content["trainer"]["optimizer"]["state"].values()))
        name = next(name for name, value in moments.items() if getattr(value, "ndim", 0))
        moments[name] = torch.zeros(3, 3)

    def other_weights(content):
        next(iter(content["trainer"]["network"].values())).view(-1)[0] = math.inf

    for change in (other_moments, other_weights):
        shutil.copy(trained / "train/last.pt", out / "train/last.pt")
        shutil.copy(trained / "train/last.pt", out / "train/last.pt.previous")
        resealed(out, change)
        refused(out)


def test_a_finished_training_returns_its_result(out):
    again = train(out, 3)
    recorded = json.loads((out / "state/train.json").read_text())["result"]
    assert again["validation_loss"] == recorded["validation_loss"]
    assert again["epochs"] == 3


def test_the_model_of_a_finished_training_is_written_again(out, caplog):
    model = out / "train/model.pt"
    content = torch.load(model, weights_only=True)["weights"]
    for damage in (b"", model.read_bytes()[:-1], None):
        model.unlink() if damage is None else model.write_bytes(damage)
        with caplog.at_level("WARNING", logger="rcdp_hpc"):
            train(out, 3)
        assert "written again from the checkpoint" in caplog.text
        again = checkpoint.load(model)["weights"]
        assert all(torch.equal(value, again[name]) for name, value in content.items())
        caplog.clear()


def test_a_damaged_baseline_is_fitted_again_on_a_resume(trained, tmp_path, caplog):
    out = tmp_path / "run"
    shutil.copytree(trained, out, ignore=shutil.ignore_patterns("train"))
    config = [*SETTINGS, "training.baseline=true"]
    stages.train(load_config("digits", [*config, "training.epochs=1"]), out)
    caplog.clear()
    stages.train(load_config("digits", [*config, "training.epochs=2"]), out)
    assert "baseline" not in caplog.text  # it is not damaged yet
    content = checkpoint.load(out / "train/ridge.pt")["weights"]
    damaged = bytearray((out / "train/ridge.pt").read_bytes())
    damaged[500] ^= 16
    (out / "train/ridge.pt").write_bytes(damaged)
    with caplog.at_level("WARNING", logger="rcdp_hpc"):
        stages.train(load_config("digits", [*config, "training.epochs=3"]), out)
    assert "The baseline is fitted again" in caplog.text
    again = checkpoint.load(out / "train/ridge.pt")["weights"]
    assert all(torch.equal(value, again[name]) for name, value in content.items())
