"""What ends a training on several ranks: gradients that are not finite, lost, frozen and failing ranks, a full disk."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import finish, processes_of_ranks, python, rcdp, run_ranks, start_ranks, wait_until
from trainings import ENGINES_HERE, Training, ended, error_of, messages, on_both_engines, train_together
from whole_runs import curve, flags, lines, recorded_epochs

pytestmark = pytest.mark.mpi

SETTINGS = (
    "reservoir.nodes=40", "reservoir.kernel=dense-fp32", "search.generations=0", "training.epochs=3", "run.seed=3",
    "readout.hidden=16", "readout.outputs=16", "training.threads=1", "training.baseline=false",
    "schedule.kind=constant", "run.progress=false",
)  # fmt: skip
# In its first epoch, the fifth batch of rank 1 has states that are NaN.
POISONED = {
    "stops": ("schedule.kind=constant",),
    "skips": ("training.on_nan=skip",),
    "independent": ("parallel.local_steps=4",),
}
STALL = 10


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "run"
    train_together(0, [Training(str(out), SETTINGS, stages=["prepare"])])
    return out


@pytest.fixture(scope="module")
def poisoned(prepared) -> Path:
    """Train with states that are NaN, on each engine, in one start; an error must not harm the next training."""
    folder = prepared.parent
    train_together(
        2,
        [
            Training(str(folder / engine / name), (*SETTINGS, *changes), engine, str(prepared), fault=("nan", 1, 5))
            for engine in ENGINES_HERE
            for name, changes in POISONED.items()
        ],
    )
    return folder


@on_both_engines
def test_a_gradient_that_is_not_finite_stops_all_with_a_checkpoint(engine, poisoned):
    out = poisoned / engine / "stops"
    error = error_of(out)
    assert error["code"] == 1
    assert "epoch 1, step 5: the loss is nan" in error["message"]
    assert "learning rate of 0.0005; first in the states that the network reads" in error["message"]
    assert json.loads((out / "state/train.json").read_text())["status"] == "failed"
    saved = torch.load(out / "train/last.pt", weights_only=True)["trainer"]
    assert saved["position"]["step"] == 4
    assert all(torch.isfinite(value).all() for value in saved["network"].values())


@on_both_engines
def test_a_gradient_that_is_not_finite_is_left_out_if_configured(engine, poisoned):
    out = ended(poisoned / engine / "skips")
    assert messages(out).count("The step is skipped") == 1
    first, *others = lines(out / "train/metrics.jsonl")
    assert first["skipped_steps"] == 1
    assert not any(line["skipped_steps"] for line in others)
    assert torch.load(out / "train/last.pt", weights_only=True)["trainer"]["learning_rate"]["reduction"] == 0.5
    assert np.isfinite(curve(out)).all()


@on_both_engines
def test_an_independent_rank_whose_gradient_is_not_finite_is_named(engine, poisoned):
    error = error_of(poisoned / engine / "independent")
    assert error["code"] == 1
    assert "rank 1: epoch 1, step 5: the loss is nan" in error["message"]


@on_both_engines
def test_a_frozen_rank_is_named_and_ends_the_job(engine, prepared, tmp_path):
    """In sums of gradients, in sums of batch statistics, or between steps."""
    out = Path(shutil.copytree(prepared, tmp_path / "run"))
    settings = (*SETTINGS, f"run.stall_seconds={STALL}", "training.epochs=5000", f"parallel.engine={engine}")
    process = start_ranks(2, rcdp("train", "digits", "--out", str(out), *flags(*settings)))
    wait_until(lambda: recorded_epochs(out) >= 3, process)
    processes_of_ranks(process)[1].send_signal(signal.SIGSTOP)
    done = finish(process, timeout=90)
    assert done.returncode == 1, done.stdout
    named = re.findall(rf"rank 1 on host \S+ \(process \d+, stopped\) has not responded for {STALL} s", done.stdout)
    assert len(named) == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert not (out / "lock").exists()


# A rank that does not take part in a sum, though its process responds.
MISSING = """
import sys, time, torch
from rcdp_hpc.config import ParallelSection
from rcdp_hpc.parallel.choose import strategy_for
from rcdp_hpc.runtime.job import run_on_all_ranks
from rcdp_hpc.runtime.logs import log_to_terminal
def work(comm):
    log_to_terminal(comm.is_root)
    engine = strategy_for(comm, 10, ParallelSection(engine=sys.argv[1])).engine
    for name in "first", "second":
        if sys.argv[1] == "horovod":
            engine.hvd.allreduce(torch.ones(1), name=name)
        else:
            engine._allreduce(torch.ones(1), name)
        time.sleep(600 * comm.rank)
sys.exit(run_on_all_ranks(work, 10))
"""


@on_both_engines
def test_a_rank_that_is_missing_from_a_sum_is_named_and_ends_the_job(engine):
    done = run_ranks(2, [*python(MISSING), engine], timeout=120)
    assert done.returncode == 1, done.stdout
    if engine == "horovod":
        assert re.search(r"Missing ranks:\s+1!?: \[allreduce.second\]", done.stdout), done.stdout
        assert done.stdout.count("missing from a collective for 10 s (run.stall_seconds)") == 1
    else:
        assert done.stdout.count("rank 0: waited 10 s for all ranks, and rank 1 (host ") == 1, done.stdout
    assert "Traceback" not in done.stdout


START = """
import errno, sys, torch
import rcdp_hpc.cli as cli
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.training.session import Session
from rcdp_hpc.training.step import Stepper
rank = detect().rank
"""
# What one rank meets, and words of the one message.
FAILURES = {
    "no memory": ("""
launch, steps = Stepper.launch, []
def step(self, *arguments):
    steps.append(self)
    if rank == 1 and len(steps) == 5:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\\n and a page more")
    return launch(self, *arguments)
Stepper.launch = step
""", ("rank 1: stage train: out of memory on", "(CUDA out of memory. Tried to allocate 2.00 GiB)", "training.batch")),
    "full disk": ("""
def full(self, *arguments):
    raise OSError(errno.ENOSPC, "No space left on device", "last.pt")
Session._write = full
""", ("no space left to write",)),
}  # fmt: skip


@on_both_engines
@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_of_one_rank_ends_all_ranks_with_one_message(failure, engine, prepared, tmp_path):
    code, words = FAILURES[failure]
    out = Path(shutil.copytree(prepared, tmp_path / "run"))
    arguments = ["train", "digits", "--out", str(out), *flags(*SETTINGS, f"parallel.engine={engine}")]
    done = run_ranks(2, python(f"{START}{code}\nsys.exit(cli.main({arguments!r}))"))
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("rcdp: error:") == 1, done.stdout
    assert "Traceback" not in done.stdout
    for word in words:
        assert word in done.stdout
    assert not (out / "train/model.pt").exists()
