"""Signals at the end of a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

# getchar runs behind Python's own end, where MPI and Horovod close, and waits there until standard input is closed.
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
