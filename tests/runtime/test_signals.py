"""Signals at the end of a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rcdp_hpc.runtime import early_signals

# getchar runs after Python has exited, when MPI and Horovod shut down, and waits until standard input is closed.
PROGRAM = """
import ctypes, sys
from rcdp_hpc.cli import main
libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc.getchar, None, None)
sys.exit(main(["train", "--out", sys.argv[1]]))
"""


def caught(pid: int) -> int:
    """Return the mask of the signals that a process catches."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return int(line.split()[1], 16)


def test_a_signal_while_the_process_ends_does_not_change_its_exit_code(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "none")], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said = process.stderr.readline()
    limit = time.monotonic() + 30
    while caught(process.pid) & 1 << (signal.SIGUSR1 - 1) and time.monotonic() < limit:
        time.sleep(0.01)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, said + errors
    assert said.startswith(b"rcdp: error")


# Sends itself a signal when the command line begins its long imports.
EARLY = """
import os, sys
number, *arguments = sys.argv[1:]

class Finder:
    def find_spec(self, name, *rest):
        if name == "rcdp_hpc.cli.commands":
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Finder())
from rcdp_hpc.cli import main
sys.exit(main(arguments))
"""


@pytest.mark.parametrize(
    ("number", "command", "code", "words"),
    [
        (signal.SIGTERM, ["prepare", "digits", "--out"], 75, "stopped by SIGTERM before the command began"),
        (signal.SIGINT, ["prepare", "digits", "--out"], 75, "stopped by SIGINT before the command began"),
        (signal.SIGINT, ["status"], 130, "interrupted by Ctrl-C"),
        (signal.SIGUSR1, ["status"], 138, "ended by SIGUSR1"),
        (signal.SIGTERM, ["status"], 143, "ended by SIGTERM"),
    ],
)
def test_a_signal_in_the_first_seconds_is_handled(number, command, code, words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", EARLY, str(int(number)), *command, str(tmp_path / "run")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stderr.count(words) == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_command_line_can_be_called_again(tmp_path, capsys):
    from rcdp_hpc import cli

    assert [cli.main(["status", str(tmp_path / "none")]) for _ in range(2)] == [2, 2]
    import rcdp_hpc.cli.commands

    assert callable(rcdp_hpc.cli.main)


def test_unneeded_handlers_are_restored():
    before = [signal.getsignal(number) for number in early_signals.STOP_SIGNALS]
    try:
        early_signals.catch()
        early_signals.release()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        for number, handler in zip(early_signals.STOP_SIGNALS, before, strict=True):
            signal.signal(number, handler)
