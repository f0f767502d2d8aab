"""Stop signals, turned into a flag that stages look at between steps.

SIGTERM, SIGUSR1 and SIGUSR2 (and a first Ctrl-C) ask for a stop at the next step boundary. A rank never
leaves on its own: all ranks agree through `stop_agreed`, write a checkpoint and leave together with code 75.
Commands that write no checkpoint end at once, with 128 and the signal's number, after they removed what was half done.

Open MPI's mpirun turns Ctrl-C into SIGTERM for its ranks, kills them a third of a second later and drops what they
print meanwhile (5.0.11, whatever odls_base_sigkill_timeout is). Rank 0 then reports on the terminal itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType

import numpy as np

from rcdp_hpc.errors import StoppedError
from rcdp_hpc.runtime import early_signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.launch import Launch, detect
from rcdp_hpc.runtime.early_signals import STOP_SIGNALS

# What a terminal is to a process, whatever its standard streams are.
TERMINAL = "/dev/tty"

_received = early_signals.received


class EndedBySignal(BaseException):
    """A command without a checkpoint was asked to end. Not an Exception, so that nothing on the way handles it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def install() -> None:
    """Catch the stop signals from here on. Only the main thread of a process may call it."""
    early = signal.getsignal(signal.SIGINT) is not _remember
    for number in STOP_SIGNALS:
        signal.signal(number, _remember)
    if early and _received:
        _announce(_received[0], detect())


def exit_on_signals() -> None:
    """Let the stop signals end a command that writes no checkpoint, also those that came already.

    Raises
    ------
    KeyboardInterrupt
        By Ctrl-C.
    EndedBySignal
        By another signal.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in STOP_SIGNALS:
        signal.signal(number, _end)
    if _received:
        _end(_received[0], None)


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt if number == signal.SIGINT else EndedBySignal(number)


def ignore_until_exit() -> None:
    """Let stop signals change nothing from here to the end of a process that caught them so far.

    Python gives signals their default action back while it exits, and MPI and Horovod close after that. A launcher that
    ends the other ranks because one left would end this one by the signal then, in place of its own exit code.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) in (_remember, _end):
            signal.signal(number, signal.SIG_IGN)


def stop_requested() -> bool:
    """Tell whether this rank has received a stop signal."""
    return bool(_received)


def stop_agreed(comm: Communicator) -> bool:
    """Tell, on all ranks alike, whether any of them was asked to stop. Collective."""
    return bool(comm.allreduce(np.array([float(stop_requested())]), "max")[0])


def raise_if_stopped(doing: str) -> None:
    """Leave work that has nothing to save where this rank was asked to stop.

    Raises
    ------
    StoppedError
        If a stop signal was received; call this where one rank's error is raised on all (`agree`, `run_on_root`).
    """
    if stop_requested():
        raise StoppedError(f"stopped by {received_name()} while {doing}: run the same command to do it anew.")


def raise_if_stopped_before(comm: Communicator) -> None:
    """Leave a command that has not begun if any rank was asked to stop. Collective.

    Raises
    ------
    StoppedError
        On all ranks alike.
    """
    if stop_agreed(comm):
        error = StoppedError(f"stopped by {received_name()} before the command began: start it again.")
        error.agreed = True
        raise error


def received_name() -> str:
    """Return the name of the first stop signal received, for messages."""
    return signal.Signals(_received[0]).name if _received else "a signal to another rank"


def clear() -> None:
    """Clear the flag (for tests and for callers that run several pipelines in one process)."""
    _received.clear()


def report_end(message: str) -> None:
    """Show on the terminal how a run ended whose launcher no longer passes on what ranks print."""
    if _received and _is_being_killed(_received[0], detect()):
        _write_to_terminal(f"rcdp: {message}\n")


def _remember(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and _received:
        raise KeyboardInterrupt
    _received.append(number)
    if len(_received) == 1:
        _announce(number, detect())


def _announce(number: int, launch: Launch) -> None:
    """Tell whoever pressed Ctrl-C what happens next. Called by a signal handler: no logging, no buffered streams."""
    if launch.rank:
        return
    if _is_being_killed(number, launch):
        _write_to_terminal(
            "\nrcdp: mpirun kills its ranks a moment after Ctrl-C. If no line follows that the checkpoint is written, "
            "the last one counts; the same command continues from it. To stop with a checkpoint, type in another "
            f"terminal, instead of Ctrl-C: kill -USR1 {_mpirun()}\n"
        )
    elif number == signal.SIGINT:
        _write(2, "\nrcdp: stopping at the next step with a checkpoint; Ctrl-C again ends at once, without\n")


def _mpirun() -> str:
    """Return the process number of mpirun, or a word for it if this rank's parent is only mpirun's daemon on a node."""
    parent = os.getppid()
    try:
        with open(f"/proc/{parent}/comm") as file:
            name = file.read().strip()
    except OSError:
        name = ""
    return str(parent) if name in ("mpirun", "mpiexec", "prterun", "orterun") else "PROCESS_OF_MPIRUN"


def _is_being_killed(number: int, launch: Launch) -> bool:
    return number == signal.SIGTERM and launch.rank == 0 and launch.launcher.startswith("mpirun")


def _write_to_terminal(text: str) -> None:
    """Write to the terminal that the job was started from; a batch job has none."""
    try:
        terminal = os.open(TERMINAL, os.O_WRONLY | os.O_NOCTTY)
    except OSError:
        return
    _write(terminal, text)
    os.close(terminal)


def _write(descriptor: int, text: str) -> None:
    """Write what may be lost: nobody reads a closed terminal."""
    with contextlib.suppress(OSError):
        os.write(descriptor, text.encode())
