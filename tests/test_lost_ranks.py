"""Lost ranks are named, and elastic runs continue without them."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest
from launch import BIN, finish, python, rcdp, run_ranks, start_ranks, wait_until
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


def kill(rank: int, launcher: subprocess.Popen[str], out: Path, by: int = signal.SIGKILL) -> None:
    """Send a signal to a rank when some epochs are done."""
    wait_until(lambda: recorded_epochs(out) >= 3, launcher, seconds=90)
    for process in psutil.Process(launcher.pid).children(recursive=True):
        environ = process.environ()
        if "python" in process.name() and environ.get("HOROVOD_RANK", environ.get("OMPI_COMM_WORLD_RANK")) == str(rank):
            process.send_signal(by)
            return
    raise AssertionError(f"no process is rank {rank}")


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


@pytest.mark.mpi
def test_a_rank_missing_from_horovod_is_named_and_ends_the_job():
    code = (
        "import time, sys, torch\n"
        "from rcdp_hpc.runtime.job import run_on_all_ranks\n"
        "from rcdp_hpc.config import ParallelSection\n"
        "from rcdp_hpc.parallel.choose import strategy_for\n"
        "def work(comm):\n"
        "    parallel = strategy_for(comm, 10, ParallelSection(engine='horovod'))\n"
        "    for name in 'first', 'second':\n"
        "        parallel.engine.hvd.allreduce(torch.ones(1), name=name)\n"
        "        time.sleep(600 * comm.rank)\n"
        "sys.exit(run_on_all_ranks(work, 10))\n"
    )
    done = run_ranks(2, python(code), timeout=120)
    assert done.returncode == 1, done.stdout
    assert re.search(r"Missing ranks:\s+1!?: \[allreduce.second\]", done.stdout), done.stdout
    assert done.stdout.count("missing from a collective for 10 s (run.stall_seconds)") == 1
    assert "Traceback" not in done.stdout


@pytest.mark.mpi
def test_a_frozen_rank_is_named_and_ends_the_job(tmp_path):
    """For waits in Horovod's sums, in sums of batch statistics, and between steps."""
    out, given = tmp_path / "run", [*SETTINGS, "--set", "run.stall_seconds=10", "--set", "training.epochs=5000"]
    prepare_digits(out, given)
    process = start_ranks(2, rcdp("train", "--out", str(out), *given))
    kill(1, process, out, signal.SIGSTOP)
    done = finish(process, timeout=90)
    assert done.returncode == 1, done.stdout
    named = re.findall(r"rank 1 on host \S+ \(process \d+, stopped\) has not responded for 10 s", done.stdout)
    assert len(named) == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert not (out / "lock").exists()
