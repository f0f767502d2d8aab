"""Stop signals: they set a flag that stages check between steps.

SIGTERM, SIGUSR1, SIGUSR2 and a first Ctrl-C request a stop at the next step. No rank stops alone: all ranks agree
through `stop_agreed`, write a checkpoint and exit with code 75. Commands that write no checkpoint remove incomplete
files and exit at once with 128 plus the signal number.

On Ctrl-C, Open MPI's mpirun sends SIGTERM to its ranks, kills them a third of a second later, and drops their output
meanwhile (5.0.11, for any odls_base_sigkill_timeout). Rank 0 therefore writes its report directly to the terminal.
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
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.comm.launcher import Launch
from rcdp_hpc.runtime.early_signals import STOP_SIGNALS

# The terminal of a process, independent of its standard streams.
TERMINAL = "/dev/tty"

_received = early_signals.received


class EndedBySignal(BaseException):
    """A signal ends a command that writes no checkpoint. `except Exception` must not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def install() -> None:
    """Start to catch the stop signals. Must be called in the main thread."""
    is_first_call = signal.getsignal(signal.SIGINT) is not _remember
    for number in STOP_SIGNALS:
        signal.signal(number, _remember)
    if is_first_call and _received:
        _announce(_received[0], detect())


def exit_on_signals() -> None:
    """Make the stop signals end a command that writes no checkpoint, including signals received before.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C.
    EndedBySignal
        On another stop signal.
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
    """Ignore the stop signals from now on if this process has caught them.

    Python restores the default actions of signals while it exits, before MPI and Horovod shut down. A launcher that
    ends all ranks because one has exited would then end this rank by a signal, which replaces its exit code.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) in (_remember, _end):
            signal.signal(number, signal.SIG_IGN)


def stop_requested() -> bool:
    """Return whether this rank has received a stop signal."""
    return bool(_received)


def stop_agreed(comm: Communicator) -> bool:
    """Return whether any rank has received a stop signal, with the same value on all ranks. Collective."""
    return bool(comm.allreduce(np.array([float(stop_requested())]), "max")[0])


def raise_if_stopped(doing: str) -> None:
    """Raise an error if this rank has received a stop signal, in work that has nothing to save.

    Call this within `agree` or `run_on_root`, which raise the error of one rank on all ranks.

    Parameters
    ----------
    doing : str
        The current work, for the message ("reading rows").

    Raises
    ------
    StoppedError
        If a stop signal was received.
    """
    if stop_requested():
        raise StoppedError(f"stopped by {received_name()} while {doing}: run the same command to do it again.")


def raise_if_stopped_before(comm: Communicator) -> None:
    """Raise an error before a command begins if any rank has received a stop signal. Collective.

    Raises
    ------
    StoppedError
        On all ranks.
    """
    if stop_agreed(comm):
        error = StoppedError(f"stopped by {received_name()} before the command began: start it again.")
        error.agreed = True
        raise error


def received_name() -> str:
    """Return the name of the first stop signal that was received, for messages."""
    return signal.Signals(_received[0]).name if _received else "a signal to another rank"


def clear() -> None:
    """Forget received signals, for tests and for programs that run several pipelines in one process."""
    _received.clear()


def report_end(message: str) -> None:
    """Write `message` to the terminal if the launcher no longer forwards the output of ranks."""
    if _received and _is_being_killed(_received[0], detect()):
        _write_to_terminal(f"rcdp: {message}\n")


def _remember(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and _received:
        raise KeyboardInterrupt
    _received.append(number)
    if len(_received) == 1:
        _announce(number, detect())


def _announce(number: int, launch: Launch) -> None:
    """Print what happens after Ctrl-C. Called in a signal handler: no logging, no buffered streams."""
    if launch.rank:
        return
    if _is_being_killed(number, launch):
        _write_to_terminal(
            "\nrcdp: mpirun kills its ranks a moment after Ctrl-C. If no line follows that a checkpoint was written, "
            "the same command continues from the previous checkpoint. To stop with a checkpoint, type this in another "
            f"terminal instead of Ctrl-C: kill -USR1 {_mpirun()}\n"
        )
    elif number == signal.SIGINT:
        _write(2, "\nrcdp: stopping at the next step with a checkpoint; Ctrl-C again ends at once, without\n")


def _mpirun() -> str:
    """Return the process number of mpirun; a placeholder if the parent of this rank is mpirun's daemon."""
    parent = os.getppid()
    try:
        with open(f"/proc/{parent}/comm") as file:
            name = file.read().strip()
    except OSError:
        name = ""
    return str(parent) if name in ("mpirun", "mpiexec", "prterun", "orterun") else "PROCESS_OF_MPIRUN"


def _is_being_killed(number: int, launch: Launch) -> bool:
    return number == signal.SIGTERM and launch.rank == 0 and launch.launcher.kills_on_interrupt


def _write_to_terminal(text: str) -> None:
    """Write to the terminal from which the job was started, if there is one."""
    try:
        terminal = os.open(TERMINAL, os.O_WRONLY | os.O_NOCTTY)
    except OSError:
        return
    _write(terminal, text)
    os.close(terminal)


def _write(descriptor: int, text: str) -> None:
    """Write a text and ignore errors, as of a closed terminal."""
    with contextlib.suppress(OSError):
        os.write(descriptor, text.encode())
