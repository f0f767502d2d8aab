"""Ctrl-C with real processes: a single process stops with a checkpoint; mpirun kills its ranks, which is reported."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launch import environment, finish, mpirun_command, rcdp, start_ranks, wait_until
from trainings import on_both_engines

from rcdp_hpc.config import load_config
from rcdp_hpc.pipeline.stages import prepare
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.launcher import NO_LAUNCHER, Launch
from rcdp_hpc.runtime.comm.launchers import OpenMPI, Slurm, Torchrun

LONG = [
    "search.generations=0",
    "reservoir.nodes=40",
    "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=256",
    "training.epochs=100000",
    "training.patience=100000",
    "training.baseline=false",
    "readout.hidden=16",
]
# A command that does not check for signals, so that the second one arrives before the first is handled.
DEAF = """
import sys, time
import rcdp_hpc.cli.commands
from rcdp_hpc.runtime import signals
cli = sys.modules["rcdp_hpc.cli.commands"]
def deaf(options):
    signals.install()
    print("ready", flush=True)
    time.sleep(60)
cli.COMMANDS = {**cli.COMMANDS, "status": deaf}
sys.exit(cli.main(["status", "x"]))
"""
CONTROL_C = b"\x03"


@pytest.fixture
def run(tmp_path) -> Path:
    """A run directory with shards for a long training."""
    prepare(load_config("digits", LONG), tmp_path / "run")
    return tmp_path / "run"


def trains(run: Path) -> bool:
    metrics = run / "train/metrics.jsonl"
    return metrics.exists() and metrics.stat().st_size > 1000


def state(run: Path) -> str:
    return json.loads((run / "state/train.json").read_text())["status"]


def test_ctrl_c_stops_at_the_next_step_with_a_checkpoint(run):
    process = start_ranks(0, rcdp("train", "--out", str(run)))
    wait_until(lambda: trains(run), process)
    process.send_signal(signal.SIGINT)
    done = finish(process, 60)
    assert done.returncode == 75, done.stdout
    assert done.stdout.count("rcdp: stopping at the next step with a checkpoint") == 1
    assert "stopped by SIGINT" in done.stdout
    assert "the checkpoint is written" in done.stdout
    assert state(run) == "stopped"
    assert (run / "train/last.pt").exists()


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    # Wait for the response to the first signal: two at once would count as one.
    assert process.stderr.readline() == "\n"
    assert "Ctrl-C again ends at once" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.count("interrupted by Ctrl-C") == 1
    assert "Traceback" not in said


@pytest.mark.mpi
@on_both_engines
def test_ctrl_c_at_mpiruns_terminal_ends_with_a_checkpoint_or_a_message(engine, run):
    command = rcdp("train", "--out", str(run), "--set", f"parallel.engine={engine}")
    shown = typed_control_c(mpirun_command(2, command), lambda: trains(run))
    assert shown.count("rcdp: mpirun kills its ranks a moment after Ctrl-C") == 1, shown
    assert "kill -USR1 " in shown
    if "the checkpoint is written" in shown.partition("kill -USR1")[2]:
        assert state(run) == "stopped"
    assert state(run) in ("stopped", "running")


def typed_control_c(command: list[str], when, seconds: float = 90) -> str:
    """Run a command on a new terminal, type Ctrl-C when `when` is true, and return the output after it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, environment())
    shown, typed_at, limit = b"", None, time.monotonic() + seconds
    try:
        while time.monotonic() < limit:
            if typed_at is None and when():
                typed_at = len(shown)
                os.write(terminal, CONTROL_C)
            if select.select([terminal], [], [], 0.05)[0]:
                try:
                    shown += os.read(terminal, 2**16)
                except OSError:  # the end of a terminal's output on Linux
                    break
        else:
            raise AssertionError(f"{command} was still running after {seconds} s:\n{shown.decode()}")
    finally:
        os.close(terminal)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert typed_at is not None, shown.decode()
    return shown[typed_at:].decode()


@pytest.mark.parametrize(
    ("number", "launch", "shown"),
    [
        (signal.SIGINT, Launch(NO_LAUNCHER, 0, 1), "stopping at the next step"),
        (signal.SIGINT, Launch(Slurm(), 1, 2), ""),
        (signal.SIGTERM, Launch(Slurm(), 0, 2), ""),
        (signal.SIGTERM, Launch(Torchrun(), 0, 2), ""),
        (signal.SIGINT, Launch(Torchrun(), 0, 2), "stopping at the next step"),
        (signal.SIGUSR1, Launch(OpenMPI(), 0, 2), ""),
        (signal.SIGTERM, Launch(OpenMPI(), 1, 2), ""),
        (signal.SIGTERM, Launch(OpenMPI(), 0, 2), "mpirun kills its ranks"),
    ],
)
def test_only_rank_0_reports_a_signal(number, launch, shown, tmp_path, monkeypatch, capfd):
    (tmp_path / "terminal").touch()
    monkeypatch.setattr(signals, "TERMINAL", str(tmp_path / "terminal"))
    signals._announce(number, launch)
    said = capfd.readouterr().err + (tmp_path / "terminal").read_text()
    assert (shown in said) if shown else not said


def test_a_job_without_a_terminal_writes_nothing_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "TERMINAL", str(tmp_path / "none"))
    signals._announce(signal.SIGTERM, Launch(OpenMPI(), 0, 2))
    assert not list(tmp_path.iterdir())
