"""Damaged shards on real ranks: stop by name, or go on without them, the same on every rank and after a resume."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from data.shards.test_reader import flip
from launch import finish, rcdp, run_ranks, start_ranks, wait_until
from test_ranks import settings, weights
from whole_runs import curve, lines, recorded_epochs

from rcdp_hpc.data.shards.reader import ShardSet

pytestmark = pytest.mark.mpi

SETTINGS = (
    "search.generations=0", "data.reserve=0.3", "data.shards=6", "data.class_keep_fractions=[]", "training.epochs=6",
    "checkpoint.every_seconds=0.2", "schedule.kind=constant",
)  # fmt: skip
DAMAGED = "train-00002-of-00006.h5"


def train(ranks: int, out: Path, *extra: str):
    batch = f"training.batch={48 // max(ranks, 1)}"
    return run_ranks(ranks, rcdp("train", "digits", "--out", str(out), *settings(*SETTINGS, batch, *extra)), timeout=90)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Shards with a reserve, one of them with a flipped byte."""
    out = tmp_path_factory.mktemp("prepared") / "run"
    done = run_ranks(0, rcdp("prepare", "digits", "--out", str(out), *settings(*SETTINGS)))
    assert done.returncode == 0, done.stdout
    shutil.copy(out / "shards" / DAMAGED, out.parent / "sound.h5")
    flip(out / "shards" / DAMAGED)
    return out


@pytest.fixture(scope="module")
def alone(prepared, tmp_path_factory) -> Path:
    """A training of one rank that replaced the shard."""
    out = shutil.copytree(prepared, tmp_path_factory.mktemp("alone") / "run")
    done = train(1, out, "data.on_damage=replace")
    assert done.returncode == 0, done.stdout
    return out


def test_ranks_verify_together_and_tell_once(prepared):
    done = run_ranks(3, rcdp("verify", str(prepared)), timeout=60)
    assert done.returncode == 3, done.stdout
    assert done.stdout.count(DAMAGED) == 1


def test_by_default_all_ranks_stop_with_the_name(prepared, tmp_path):
    out = shutil.copytree(prepared, tmp_path / "run")
    done = train(2, out)
    assert done.returncode == 3, done.stdout
    assert done.stdout.count(DAMAGED) == 1
    assert "SHA-256 differs" in done.stdout


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_replaces_alike_and_trains_to_the_same(ranks, prepared, alone, tmp_path):
    out = shutil.copytree(prepared, tmp_path / "run")
    done = train(ranks, out, "data.on_damage=replace")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Left out on all ranks") == 1
    assert done.stdout.count("training rows, each by a row of its class") == 1
    replaced, by_one = (json.loads((path / "train/replaced.json").read_text()) for path in (out, alone))
    assert [refill["lost"] for refill in replaced["refills"]] == [refill["lost"] for refill in by_one["refills"]]
    assert list(replaced["damaged"]) == [DAMAGED]
    np.testing.assert_allclose(curve(out), curve(alone), rtol=1e-5, atol=1e-5)
    assert json.loads((out / "state/train.json").read_text())["result"]["replaced"] == [DAMAGED]


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_classes_of_every_rank_and_epoch_are_counted(ranks, prepared, alone, tmp_path):
    out = alone
    if ranks > 1:
        out = shutil.copytree(prepared, tmp_path / "run")
        assert train(ranks, out, "data.on_damage=replace").returncode == 0
    counted = lines(out / "train/class_counts.jsonl")
    assert [line["epoch"] for line in counted] == list(range(6))
    assert all(line["same_as"] == 0 for line in counted[1:])
    counts = np.array(counted[0]["counts"])
    assert counts.shape == (ranks, 10)
    # Fully refilled: as many rows of each class as were prepared, evenly over the ranks.
    np.testing.assert_array_equal(counts.sum(axis=0), ShardSet(out / "shards").class_counts("train"))
    assert np.ptp(counts) <= 4


def test_a_resume_goes_on_without_the_shard_though_it_is_sound_again(prepared, alone, tmp_path):
    out = shutil.copytree(prepared, tmp_path / "run")
    # Stopped in the middle by the number of epochs, which may change.
    done = train(2, out, "data.on_damage=replace", "training.epochs=3")
    assert done.returncode == 0, done.stdout
    shutil.copy(prepared.parent / "sound.h5", out / "shards" / DAMAGED)
    done = train(2, out)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(f"{DAMAGED}: still replaced, as in the checkpoint") == 1
    np.testing.assert_allclose(curve(out), curve(alone), rtol=1e-5, atol=1e-5)
    assert len(lines(out / "train/class_counts.jsonl")) == 6


def test_a_shard_damaged_between_two_jobs_is_replaced_beside_the_first(prepared, tmp_path):
    out = shutil.copytree(prepared, tmp_path / "run")
    more = ("data.on_damage=replace", "training.epochs=60", "training.patience=60", "training.batch=12")
    command = rcdp("train", "digits", "--out", str(out), *settings(*SETTINGS, *more))
    process = start_ranks(2, command)
    wait_until(lambda: recorded_epochs(out) >= 3, process)
    process.send_signal(signal.SIGUSR1)
    assert finish(process, 60).returncode == 75
    flip(out / "shards/train-00000-of-00006.h5")
    epochs = len(lines(out / "train/metrics.jsonl")) + 2
    done = run_ranks(2, [*command, "--set", f"training.epochs={epochs}"])
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("still replaced") == 1
    assert done.stdout.count("Left out on all ranks") == 1
    replaced = json.loads((out / "train/replaced.json").read_text())
    assert list(replaced["damaged"]) == [DAMAGED, "train-00000-of-00006.h5"]
    # Thirty percent stand in for the first sixth, and for most of the second.
    assert sum(sum(refill["missing"]) for refill in replaced["refills"]) > 0
    assert "; missing: " in done.stdout
    assert len(lines(out / "train/metrics.jsonl")) == epochs
    assert all(bool(value.isfinite().all()) for value in weights(out).values())


def test_a_readout_solved_by_ridge_does_without_the_shard(prepared, tmp_path):
    results = []
    for ranks in (1, 2):
        out = shutil.copytree(prepared, tmp_path / str(ranks))
        done = train(ranks, out, "data.on_damage=replace", "readout.kind=ridge")
        assert done.returncode == 0, done.stdout
        result = json.loads((out / "state/train.json").read_text())["result"]
        assert result["replaced"] == [DAMAGED]
        results.append(result["validation_accuracy"])
    assert results[0] == results[1]


def test_the_search_does_without_it_too(prepared, tmp_path):
    histories = []
    for ranks in (1, 2):
        out = shutil.copytree(prepared, tmp_path / str(ranks))
        extra = ("search.generations=1", "search.population=2", "search.train_rows=600", "data.on_damage=replace")
        done = run_ranks(ranks, rcdp("search", "digits", "--out", str(out), *settings(*SETTINGS, *extra)))
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("Left out on all ranks") == 1
        assert json.loads((out / "state/search.json").read_text())["result"]["replaced"] == [DAMAGED]
        histories.append([line["fitness"] for line in lines(out / "search/history.jsonl") if "fitness" in line])
    assert histories[0]
    assert histories[0] == histories[1]
