"""Stop signals, turned into a flag that stages look at between steps.

SIGTERM, SIGUSR1 and SIGUSR2 (and a first Ctrl-C) ask for a stop at the next step boundary. A rank never
leaves on its own: all ranks agree through `stop_agreed`, write a checkpoint and leave together with code 75.
"""

from __future__ import annotations

import signal
from types import FrameType

import numpy as np

from rcdp_hpc.errors import StoppedError
from rcdp_hpc.runtime.comm import Communicator

_received: list[int] = []


def install() -> None:
    """Catch the stop signals from here on. Only the main thread of a process may call it."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, _remember)


def leave() -> None:
    """Let stop signals change nothing from here to the end of a process that caught them so far.

    Python gives signals their default action back while it exits, and MPI and Horovod close after that. A launcher that
    ends the other ranks because one left would end this one by the signal then, in place of its own exit code.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is _remember:
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


def received_name() -> str:
    """Return the name of the first stop signal received, for messages."""
    return signal.Signals(_received[0]).name if _received else "a signal to another rank"


def forget() -> None:
    """Clear the flag (for tests and for callers that run several pipelines in one process)."""
    _received.clear()


def _remember(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and _received:
        raise KeyboardInterrupt
    _received.append(number)
