"""Cross-validation: the samples of the folds, their assignment to ranks, and the summary."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from launch import REPOSITORY, python, rcdp, run_ranks
from search.ranks import Ranks
from trainings import ENGINES_HERE

from rcdp_hpc.cli.status import describe_run
from rcdp_hpc.config import load_config, parse_config
from rcdp_hpc.data.prepare import plan_rows, prepare_shards, split_rows
from rcdp_hpc.data.shards.storage import storage_of
from rcdp_hpc.data.shards.verify import verify_shards
from rcdp_hpc.data.sources import Part, Source
from rcdp_hpc.errors import DataDamagedError, InputError, StoppedError
from rcdp_hpc.pipeline import cross_validation
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.rundir import RunDirectory

SMALL = [
    "data.validation_fraction=0.2", "reservoir.nodes=40", "reservoir.kernel=dense-fp32", "search.generations=1",
    "search.population=4", "search.train_rows=200", "search.validation_rows=100",
    "training.epochs=6", "readout.hidden=16", "readout.outputs=16", "training.threads=1",
    "training.batch=240", "optimizer.learning_rate=0.01", "training.baseline=false", "run.seed=3",
]  # fmt: skip
DOCS = (REPOSITORY / "docs/crossvalidation.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
ALL, STATUS, ONE = (line for block in BLOCKS for line in block.splitlines())
SETTINGS = [part for value in SMALL for part in ("--set", value)]


def source_of(counts: list[int], test: int = 0) -> Source:
    y = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    x = np.random.default_rng(2).normal(size=(len(y), 3)).astype(np.float32)
    own = Part(x[:test], y[:test]) if test else None
    return Source("npz", [f"c{label}" for label in range(len(counts))], Part(x, y), own, 1.0, "made here")


def planned(source, config):
    train, others, _ = split_rows(source, config)
    return plan_rows(source, config, storage_of(config.data, source), train, others)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.integers(2, 6),
    st.sampled_from(["smote", "random_over", "none"]),
    st.sampled_from([0, 7]),
)
@hypothesis_settings(deadline=None, max_examples=20)
def test_folds_are_disjoint_and_complete_and_only_training_rows_are_balanced(counts, number, balance, test):
    counts = [20, *counts]
    source, held = source_of(counts, test), []
    for fold in range(1, number + 1):
        config = parse_config({"data": {"folds": number, "fold": fold, "balance": balance}}, where="here")
        tables = planned(source, config)
        train, validation, out = (tables[split] for split in ("train", "validation", "test"))
        held.extend(out.source)
        real = train.source[~train.synthetic]
        assert sorted([*real, *validation.source, *out.source]) == list(range(sum(counts)))
        assert not validation.synthetic.any()
        assert not out.synthetic.any()
        # Both source samples of a synthetic row are training samples.
        made = train.part(np.flatnonzero(train.synthetic))
        assert set(made.source) | set(made.neighbour) <= set(real)
        if balance != "none":
            assert len(set(train.counts(len(counts))) - {0}) == 1
    assert sorted(held) == list(range(sum(counts)))


@pytest.mark.parametrize("balance", ["smote", "random_over", "random_under", "none"])
@pytest.mark.parametrize("rare", [1, 2])
def test_classes_of_fewer_rows_than_folds_are_held_out_once_and_verified(rare, balance, tmp_path):
    np.savez(tmp_path / "d.npz", x=source_of([20, 15, rare]).train.x, y=source_of([20, 15, rare]).train.y)
    held = []
    for fold in range(1, 5):
        data = {"source": "npz", "path": str(tmp_path / "d.npz"), "folds": 4, "fold": fold, "balance": balance}
        shards = tmp_path / f"{fold}"
        index = prepare_shards(parse_config({"data": {**data, "shards": 1, "reserve": 0.1}}, where="here"), shards)
        assert verify_shards(shards) == []
        held.append([entry["test"] for entry in index["class_table"]])
        present = [entry["after"] for entry in index["class_table"] if entry["before"]]
        assert balance == "none" or len(set(present)) == 1
        assert all(entry["after"] == 0 for entry in index["class_table"] if not entry["before"])
    assert np.sum(held, axis=0).tolist() == [20, 15, rare]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"folds": 1}, "data.folds = 1 leaves nothing to train on"),
        ({"fold": 2}, "data.fold = 2 needs a number of data.folds"),
        ({"folds": 3, "fold": 4}, "data.fold = 4 must be between 1 and data.folds .3."),
    ],
)
def test_folds_that_make_no_sense_are_refused(data, message):
    with pytest.raises(InputError, match=message):
        parse_config({"data": data}, where="here")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"folds": 3}, r"data.folds = 3 .* set it to 1 \.\.\. 3"),
        ({"folds": 39, "fold": 1}, r"data.folds = 39: there are only 38 samples; set data.folds to at most 38"),
    ],
)
def test_data_that_cannot_be_dealt_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        planned(source_of([30, 8]), parse_config({"data": data}, where="here"))


def test_a_fold_out_of_range_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"must be between 1 and data\.folds \(3\)"):
        cross_validation.crossvalidate(load_config("digits", ["data.folds=3"]), tmp_path, fold=4)
    with pytest.raises(InputError, match=r"data.folds = 0: cross-validation needs at least 2 folds"):
        cross_validation.crossvalidate(load_config("digits"), tmp_path)
    RunDirectory(tmp_path).shards.mkdir()
    with pytest.raises(InputError, match="is the directory of a single run"):
        cross_validation.crossvalidate(load_config("digits", ["data.folds=3"]), tmp_path)


@pytest.fixture
def recorded_folds(monkeypatch):
    """Record folds as (fold, ranks, global batch, ranks of the job) and do not run them; folds 2 and 3 end early."""
    folds: list[tuple] = []
    ends: dict[int, Exception] = {}

    def run_with_options(stages, config, out, comm, options):
        fold = config.data.fold
        places = comm.job_placement
        folds.append((fold, comm.size, config.training.global_batch, places and len(places)))
        assert Path(out).name == f"fold-{fold}"
        if fold in ends:
            raise agreed(ends[fold])

    monkeypatch.setattr(cross_validation, "run_with_options", run_with_options)
    return folds, ends


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        (1, [(fold, 1, 64, None) for fold in (1, 2, 3)]),
        (2, [(fold, 1, 64, 2) for fold in (1, 2, 3)]),
        (5, [(1, 2, 64, 5)] * 2 + [(2, 2, 64, 5)] * 2 + [(3, 1, 64, 5)]),
    ],
)
def test_folds_are_assigned_to_groups_of_ranks(ranks, expected, recorded_folds, tmp_path):
    config = load_config("digits", ["data.folds=3", "training.batch=64"])
    Ranks(ranks).run(lambda comm: cross_validation.crossvalidate(config, tmp_path, comm))
    assert sorted(recorded_folds[0]) == expected


def test_folds_run_one_after_another_if_ranks_cannot_be_grouped(recorded_folds, tmp_path):
    def work(comm):
        comm.can_split = False
        return cross_validation.crossvalidate(
            load_config("digits", ["data.folds=3", "training.batch=64"]), tmp_path, comm
        )

    Ranks(2).run(work)
    assert sorted(recorded_folds[0]) == [(fold, 2, 64, None) for fold in (1, 2, 3) for _ in range(2)]


def test_a_failed_fold_is_named_on_all_ranks_and_other_groups_finish(recorded_folds, tmp_path):
    folds, ends = recorded_folds
    ends |= {2: StoppedError("by a signal"), 3: DataDamagedError("a file")}
    config = load_config("digits", ["data.folds=4"])
    errors = Ranks(2).run(lambda comm: cross_validation.crossvalidate(config, tmp_path, comm))
    assert [(type(error), str(error), error.agreed) for error in errors] == [
        (DataDamagedError, "fold 3: a file", True)
    ] * 2
    assert sorted(fold for fold, *_ in folds) == [1, 2, 3]


def documented(command: str, out: Path) -> list[str]:
    """A command of the docs, with two folds and in a temporary folder."""
    _, arguments = command.split("rcdp ")
    return rcdp(*arguments.replace("runs/folds", str(out)).replace("--folds 5", "--folds 2").split())


def summary(out: Path) -> dict:
    found = read_sealed(out / "report/summary.json")
    for result in found["results"]:
        del result["seconds"], result["complexity"]["milliseconds"]
    return found


def curves(out: Path) -> list:
    lines = [(fold / "train/metrics.jsonl").read_text().splitlines() for fold in sorted(out.glob("fold-*"))]
    names = ("train_loss", "validation_loss", "validation_accuracy")
    return [[json.loads(line)[name] for line in fold for name in names] for fold in lines]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A cross-validation of one process."""
    out = tmp_path_factory.mktemp("alone")
    assert cross_validation.crossvalidate(load_config("digits", ["data.folds=2", *SMALL]), out)["folds"] == 2
    return out


def origins(out: Path, fold: int, split: str) -> set[int]:
    """The samples from which the rows of a split of a fold derive."""
    found: set[int] = set()
    for shard in (out / f"fold-{fold}/shards").glob(f"{split}-*.h5"):
        with h5py.File(shard, "r", locking=False) as file:
            found |= {*file["source_index"][:].tolist(), *file["neighbour_index"][:].tolist()}
    return found - {-1}


def test_each_sample_is_held_out_once_and_the_summary_adds_up(alone):
    held = [origins(alone, fold, "test") for fold in (1, 2)]
    for fold in (1, 2):
        assert not held[fold - 1] & origins(alone, fold, "train")
        assert not held[fold - 1] & origins(alone, fold, "val")
    assert not held[0] & held[1]
    assert held[0] | held[1] == set(range(1797))
    found = summary(alone)
    accuracy = [result["accuracy"] for result in found["results"]]
    assert found["mean"]["accuracy"] == pytest.approx(np.mean(accuracy))
    assert found["deviation"]["accuracy"] == pytest.approx(np.std(accuracy, ddof=1))
    assert np.sum(found["confusion"]) == 1797
    assert np.trace(found["confusion"]) == sum(result["correct"] for result in found["results"])
    assert (alone / "report/folds.png").read_bytes().startswith(b"\x89PNG")
    status = run_ranks(0, documented(STATUS, alone)).stdout
    assert status.count("done: accuracy") == 2
    assert f"macro F1 {found['mean']['macro_f1']:.4f}" in status


def test_one_fold_at_a_time_gives_the_same(alone, tmp_path):
    done = run_ranks(0, [*documented(ONE, tmp_path), *SETTINGS], timeout=180)
    assert done.returncode == 0, done.stdout
    assert "1 of 2 folds are finished" in done.stdout
    assert not (tmp_path / "report/summary.json").exists()
    assert "next: rcdp crossvalidate" in describe_run(RunDirectory(tmp_path))
    cross_validation.crossvalidate(RunDirectory(tmp_path).config(), tmp_path, fold=1)
    assert summary(tmp_path) == summary(alone)
    assert curves(tmp_path) == curves(alone)


@pytest.mark.mpi
def test_two_ranks_stopped_and_resumed_give_the_results_of_one(alone, tmp_path):
    """Each rank trains a fold, and a signal stops it in its third epoch."""
    command = [*documented(ALL, tmp_path), *SETTINGS]
    code = (
        "import os, signal, sys, rcdp_hpc.cli as cli\n"
        "from rcdp_hpc.training.session import Session\n"
        "report = Session.report\n"
        "def report_and_stop(self, epoch):\n"
        "    report(self, epoch)\n"
        "    if epoch.epoch == 2: os.kill(os.getpid(), signal.SIGUSR1)\n"
        "Session.report = report_and_stop\n"
        f"sys.exit(cli.main({command[3:]!r}))\n"
    )
    done = run_ranks(2, python(code), timeout=240)
    assert done.returncode == 75, done.stdout
    assert done.stdout.count("fold 1: training stopped by SIGUSR1 in epoch 4") == 1, done.stdout
    assert describe_run(RunDirectory(tmp_path)).count("train stopped") == 2
    done = run_ranks(2, command, timeout=240)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("deviation  ") == 1
    assert summary(tmp_path) == summary(alone)
    np.testing.assert_array_equal(curves(tmp_path), curves(alone))


@pytest.mark.mpi
def test_three_ranks_give_the_results_of_one_on_both_engines(alone, tmp_path):
    """Two ranks train a fold together, and the third rank trains the other fold."""
    code = (
        "import rcdp_hpc\n"
        "from rcdp_hpc.config import load_config\n"
        "comm = rcdp_hpc.connect()\n"
        f"for engine in {ENGINES_HERE!r}:\n"
        f"    config = load_config('digits', ['data.folds=2', f'parallel.engine={{engine}}', *{SMALL!r}])\n"
        f"    rcdp_hpc.crossvalidate(config, f'{tmp_path}/{{engine}}', comm=comm)\n"
    )
    done = run_ranks(3, python(code), timeout=240)
    assert done.returncode == 0, done.stdout
    for engine in ENGINES_HERE:
        out = tmp_path / engine
        np.testing.assert_allclose(curves(out), curves(alone), rtol=1e-5, atol=1e-5)
        assert summary(out)["confusion"] == summary(alone)["confusion"]
        assert [RunDirectory(out).fold(fold).state("train")["ranks"] for fold in (1, 2)] == [2, 1]
