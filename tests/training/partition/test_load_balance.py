"""Unequal shares of the work on real ranks: the same training as with equal ones, and as on one rank."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from launch import python, rcdp, run_ranks
from settings import config_of
from test_ranks import curve, lines, settings, weights

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.partition.load_balance import speeds_of_ranks

SETTINGS = ("search.generations=0", "schedule.kind=constant")


class Ranks(SingleProcess):
    """Several ranks that measure the given rates."""

    def __init__(self, *rates):
        self.rates, self.size = list(rates), len(rates)

    def allgather(self, value):
        return self.rates


def speeds_measured(*rates, saved=None):
    return speeds_of_ranks(config_of(partition__load_balance="measured"), Ranks(*rates), lambda: rates[0], saved)


def test_measured_speeds_are_relative_and_small_differences_are_ignored():
    assert speeds_measured(1000.0, 2004.0, 1500.0) == (1.0, 2.0, 1.5)
    assert speeds_measured(1000.0, 1150.0) == ()


def test_a_training_resumed_on_as_many_ranks_uses_its_earlier_speeds():
    saved = SimpleNamespace(ranks=2, load_balance={"kind": "measured", "rank_speeds": [1.0, 3.0]})
    assert speeds_measured(1.0, 2.0, saved=saved) == (1.0, 3.0)
    assert speeds_measured(1.0, 2.0, 4.0, saved=saved) == (1.0, 2.0, 4.0)
    equal = SimpleNamespace(ranks=2, load_balance={"kind": "measured", "rank_speeds": []})
    assert speeds_measured(1.0, 2.0, saved=equal) == ()


def test_each_rank_needs_a_speed():
    with pytest.raises(InputError, match=r"partition.rank_speeds has 2 numbers for 3 ranks"):
        speeds_of_ranks(
            config_of(partition__load_balance="rank_speeds", partition__rank_speeds=[1, 2]), Ranks(1, 1, 1), float, None
        )


def run(ranks: int, out: Path, *extra: str, command=rcdp):
    batch = f"training.batch={48 // ranks}"
    arguments = command("run", "digits", "--out", str(out), *settings(*SETTINGS, batch, *extra))
    return run_ranks(ranks, arguments, timeout=150)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    done = run(1, out)
    assert done.returncode == 0, done.stdout
    return out


def result(out: Path) -> dict:
    return json.loads((out / "state/train.json").read_text())["result"]


@pytest.mark.mpi
@pytest.mark.parametrize(("speeds", "partitions"), [([1, 2], [4, 8]), ([3, 1, 2], [6, 2, 4])])
def test_unequal_shares_give_the_same_training(speeds, partitions, alone, tmp_path):
    done = run(len(speeds), tmp_path, "partition.load_balance=rank_speeds", f"partition.rank_speeds={speeds}")
    assert done.returncode == 0, done.stdout
    assert result(tmp_path)["partitions"] == partitions
    np.testing.assert_allclose(curve(tmp_path), curve(alone), rtol=1e-5, atol=1e-5)
    counts = np.array(lines(tmp_path / "train/class_counts.jsonl")[0]["counts"])
    rows = counts.sum(axis=1)
    np.testing.assert_allclose(rows / rows.sum(), np.array(partitions) / 12, atol=0.01)
    # Every share has the class proportions of the whole.
    assert (np.abs(counts - counts.sum(axis=0) * (rows / rows.sum())[:, None]) < 2).all()


def measuring(*arguments: str) -> list[str]:
    """Return the command line of ``rcdp`` on ranks that seem to differ."""
    code = (
        "import sys, rcdp_hpc.cli as cli, rcdp_hpc.training.partition.rows as rows\n"
        "from rcdp_hpc.runtime.comm.launch import detect\n"
        "rows.measured_rate = lambda *_: 100.0 * (1 + 2 * detect().rank)\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    return [*python(code), *arguments]


@pytest.mark.mpi
def test_measured_speeds_are_recorded_and_used_on_resume(alone, tmp_path):
    done = run(2, tmp_path, "partition.load_balance=measured", "training.epochs=2", command=measuring)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("speeds of the ranks: [1.0, 3.0]; partitions: [3, 9]") == 1
    # The second job measures for real, and must not use it.
    done = run(2, tmp_path, "partition.load_balance=measured")
    assert done.returncode == 0, done.stdout
    assert result(tmp_path)["partitions"] == [3, 9]
    assert result(tmp_path)["rank_speeds"] == [1.0, 3.0]
    np.testing.assert_allclose(curve(tmp_path), curve(alone), rtol=1e-5, atol=1e-5)


@pytest.mark.mpi
def test_speeds_of_real_ranks_are_measured(alone, tmp_path):
    done = run(2, tmp_path, "partition.load_balance=measured")
    assert done.returncode == 0, done.stdout
    assert "about equally fast" in done.stdout or "speeds of the ranks" in done.stdout
    for name, value in weights(alone).items():
        np.testing.assert_allclose(weights(tmp_path)[name], value, rtol=1e-3, atol=1e-4)
