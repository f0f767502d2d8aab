"""Elastic runs continue without lost ranks. Other runs name them: tests/parallel/test_failures.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from launch import BIN, finish, processes_of_ranks, rcdp, run_ranks, start_ranks, wait_until
from whole_runs import CURVE, curve, flags, lines, prepare_digits, recorded_epochs

from rcdp_hpc.runtime.comm.elastic import _change_text

EPOCHS = 15
NAMES = ("epoch", *CURVE)
SETTINGS = flags(
    "reservoir.nodes=60", "reservoir.kernel=dense-fp32", "search.generations=0", "readout.hidden=16",
    "readout.outputs=16", "training.threads=1", "training.patience=100", f"training.epochs={EPOCHS}",
    "checkpoint.every_epochs=1", "run.seed=3",
)  # fmt: skip
# Three host names, because the host of a dead rank is not used again. Horovod does not start ssh for these.
HOSTS = "localhost:1,127.0.0.1:1,127.1:1"


def kill(rank: int, launcher: subprocess.Popen[str], out: Path) -> None:
    """Kill a rank when some epochs are done."""
    wait_until(lambda: recorded_epochs(out) >= 3, launcher, seconds=90)
    processes_of_ranks(launcher)[rank].kill()


def test_the_text_on_a_changed_number_of_ranks():
    assert _change_text(3, 2) == "a rank was lost: 2 ranks continue instead of 3, from the last checkpoint"
    assert _change_text(3, 4) == "ranks were added: 4 ranks continue instead of 3, from the last checkpoint"


@pytest.mark.mpi
@pytest.mark.horovodrun
def test_two_of_three_ranks_continue_when_rank_0_is_killed(tmp_path):
    alone, out = tmp_path / "alone", tmp_path / "elastic"
    done = run_ranks(0, rcdp("run", "digits", "--out", str(alone), *SETTINGS, "--set", "training.batch=48"))
    assert done.returncode == 0, done.stdout
    prepare_digits(out, SETTINGS)
    elastic = ["--gloo", "--min-np", "2", "-np", "3", "-H", HOSTS, "--network-interface", "lo"]
    train = rcdp("train", "digits", "--out", str(out), *SETTINGS, "--set", "training.batch=16")
    process = start_ranks(0, [str(BIN / "horovodrun"), *elastic, *train])
    kill(0, process, out)
    done = finish(process, timeout=240)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("a rank was lost: 2 ranks continue instead of 3, from the last checkpoint") == 1
    assert done.stdout.count("resumed at epoch") == 1
    # No epoch is missing or repeated, and all are equal to those of a run without losses.
    np.testing.assert_allclose(curve(out, NAMES), curve(alone, NAMES), rtol=1e-5, atol=1e-5)
    (rows,) = lines(alone / "train/class_counts.jsonl")[0]["counts"]
    counts = [np.array(line["counts"]) for line in lines(out / "train/class_counts.jsonl") if "counts" in line]
    assert {len(ranks) for ranks in counts} == {2, 3}
    assert all(ranks.sum(axis=0).tolist() == rows for ranks in counts)
