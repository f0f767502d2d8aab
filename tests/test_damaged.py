"""Damaged shards on real ranks: stop by name, or continue without them, the same on every rank and after a resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import rcdp, run_ranks
from trainings import ENGINES_HERE, Training, ended, error_of, flip, messages, on_both_engines, train_together
from whole_runs import curve, lines

from rcdp_hpc.data.shards.reader import ShardReader

pytestmark = pytest.mark.mpi

SETTINGS = (
    "reservoir.nodes=60", "reservoir.kernel=dense-fp32", "search.generations=0", "readout.hidden=16",
    "readout.outputs=16", "readout.dropout=0.2", "training.threads=1", "training.epochs=6", "run.progress=false",
    "data.reserve=0.3", "data.shards=6", "data.class_keep_fractions=[]", "schedule.kind=constant",
)  # fmt: skip
REPLACE = (*SETTINGS, "data.on_damage=replace")
SEARCH = ("search.generations=1", "search.population=2", "search.train_rows=600", "search.validation_rows=100")
DAMAGED, SECOND = "train-00002-of-00006.h5", "train-00000-of-00006.h5"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Shards with a reserve, one of them with a flipped byte."""
    out = tmp_path_factory.mktemp("damaged") / "prepared"
    train_together(0, [Training(str(out), SETTINGS, stages=["prepare"])])
    shutil.copy(out / "shards" / DAMAGED, out.parent / "sound.h5")
    flip(out / "shards" / DAMAGED)
    return out


def plan(folder: Path, ranks: int, engine: str) -> list[Training]:
    """Return the trainings of a number of ranks on an engine; 0 ranks are this process."""
    at = folder / str(ranks) / engine

    def one(name: str, settings: tuple[str, ...], *extra: str, **options) -> Training:
        batched = (*settings, f"training.batch={48 // max(ranks, 1)}", *extra)
        return Training(str(at / name), batched, engine, str(folder / "prepared"), **options)

    trainings = [one("replaced", REPLACE)]
    if ranks == 2:
        sound = ["copied", str(folder / "sound.h5"), str(at / "sound again/shards" / DAMAGED)]
        trainings += [
            one("by default", SETTINGS),
            # Stopped in the middle by the number of epochs, which may change.
            one("sound again", REPLACE, "training.epochs=3"),
            one("sound again", REPLACE, fault=sound),
            one("a second one", REPLACE, fault=["stopped", 0, 3, 0]),
            one("a second one", REPLACE, fault=["flipped", str(at / "a second one/shards" / SECOND)]),
        ]
    return trainings


def without_engine(folder: Path, ranks: int) -> list[Training]:
    """Return a readout that is solved, and a search."""
    at, source = folder / str(ranks), str(folder / "prepared")
    return [
        Training(str(at / "ridge"), (*REPLACE, "readout.kind=ridge"), source=source),
        Training(str(at / "search"), (*REPLACE, *SEARCH), source=source, stages=["search"]),
    ]


@pytest.fixture(scope="module")
def alone(prepared) -> Path:
    """The folder of the trainings of this process."""
    train_together(0, [*plan(prepared.parent, 0, ""), *without_engine(prepared.parent, 0)])
    return prepared.parent / "0"


@pytest.fixture(scope="module")
def two(prepared) -> Path:
    """The folder of the trainings of two ranks."""
    trainings = [one for engine in ENGINES_HERE for one in plan(prepared.parent, 2, engine)]
    train_together(2, [*trainings, *without_engine(prepared.parent, 2)])
    return prepared.parent / "2"


@pytest.fixture(scope="module")
def three(prepared) -> Path:
    """The folder of the trainings of three ranks."""
    train_together(3, [one for engine in ENGINES_HERE for one in plan(prepared.parent, 3, engine)])
    return prepared.parent / "3"


def test_ranks_verify_together_and_report_once(prepared):
    done = run_ranks(3, rcdp("verify", str(prepared)), timeout=60)
    assert done.returncode == 3, done.stdout
    assert done.stdout.count(DAMAGED) == 1


@on_both_engines
def test_by_default_all_ranks_stop_with_the_name(engine, two):
    error = error_of(two / engine / "by default")
    assert error["code"] == 3
    assert error["message"].count(DAMAGED) == 1
    assert "SHA-256 differs" in error["message"]


@on_both_engines
@pytest.mark.parametrize("ranks", ["two", "three"])
def test_any_number_of_ranks_replaces_alike_and_trains_to_the_same(ranks, engine, alone, request):
    out = ended(request.getfixturevalue(ranks) / engine / "replaced")
    assert messages(out).count("Left out on all ranks") == 1
    assert messages(out).count("training rows, each by a row of its class") == 1
    replaced, by_one = (json.loads((path / "train/replaced.json").read_text()) for path in (out, alone / "replaced"))
    assert [refill["lost"] for refill in replaced["refills"]] == [refill["lost"] for refill in by_one["refills"]]
    assert list(replaced["damaged"]) == [DAMAGED]
    np.testing.assert_allclose(curve(out), curve(alone / "replaced"), rtol=1e-5, atol=1e-5)
    assert result(out, "train")["replaced"] == [DAMAGED]


def result(out: Path, stage: str) -> dict:
    return json.loads((out / f"state/{stage}.json").read_text())["result"]


@pytest.mark.parametrize(("ranks", "engine"), [(1, ""), *((2, engine) for engine in ENGINES_HERE)])
def test_the_classes_of_every_rank_and_epoch_are_counted(ranks, engine, alone, two):
    out = (alone if ranks == 1 else two) / engine / "replaced"
    counted = lines(out / "train/class_counts.jsonl")
    assert [line["epoch"] for line in counted] == list(range(6))
    assert all(line["same_as"] == 0 for line in counted[1:])
    counts = np.array(counted[0]["counts"])
    assert counts.shape == (ranks, 10)
    # Fully refilled: as many rows of each class as were prepared, evenly over the ranks.
    np.testing.assert_array_equal(counts.sum(axis=0), ShardReader(out / "shards").class_counts("train"))
    assert np.ptp(counts) <= 4


@on_both_engines
def test_a_resume_continues_without_the_shard_though_it_is_undamaged_again(engine, alone, two):
    out = ended(two / engine / "sound again")
    assert messages(out).count(f"{DAMAGED}: still replaced, as in the checkpoint") == 1
    np.testing.assert_allclose(curve(out), curve(alone / "replaced"), rtol=1e-5, atol=1e-5)
    assert len(lines(out / "train/class_counts.jsonl")) == 6


@on_both_engines
def test_a_shard_damaged_between_two_jobs_is_replaced_in_addition_to_the_first(engine, two):
    out = ended(two / engine / "a second one")
    assert "training stopped by SIGUSR1" in messages(out) or "resumed at epoch 4, step 0" in messages(out)
    assert messages(out).count("still replaced") == 1
    assert messages(out).count("Left out on all ranks") == 2
    replaced = json.loads((out / "train/replaced.json").read_text())
    assert list(replaced["damaged"]) == [DAMAGED, SECOND]
    # Thirty percent stand in for the first sixth, and for most of the second.
    assert sum(sum(refill["missing"]) for refill in replaced["refills"]) > 0
    assert "; missing: " in messages(out)
    assert len(lines(out / "train/metrics.jsonl")) == 6
    weights = torch.load(out / "train/last.pt", weights_only=True)["trainer"]["network"]
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_a_readout_solved_by_ridge_does_without_the_shard(alone, two):
    one, other = (result(ended(path / "ridge"), "train") for path in (alone, two))
    assert one["replaced"] == other["replaced"] == [DAMAGED]
    assert one["validation_accuracy"] == other["validation_accuracy"]


def test_the_search_does_without_it_too(alone, two):
    histories = []
    for path in (alone / "search", two / "search"):
        assert messages(ended(path)).count("Left out on all ranks") == 1
        assert result(path, "search")["replaced"] == [DAMAGED]
        histories.append([line["fitness"] for line in lines(path / "search/history.jsonl") if "fitness" in line])
    assert histories[0]
    assert histories[0] == histories[1]
