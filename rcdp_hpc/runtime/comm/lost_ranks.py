"""Errors that say that another rank is lost: it ended, or was missing from a collective for too long."""

from __future__ import annotations

import re

from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.horovod import is_horovods_error

# cluster/job.sh leaves out messages with these words when it looks for the cause of a failure.
MARK = "has lost another rank"
HOROVOD = "Horovod"
LONGEST_REASON = 1000
# Words of a fault that is not the loss of a rank. NCCL's "unhandled system error", "internal error" and "remote process
# exited" may be such a loss.
_FAULTS = re.compile(
    r"invalid (usage|argument)|duplicate gpu|unhandled cuda error|cuda (driver )?error|cuda failure|out of memory"
    r"|insufficient driver|no cuda-capable device|nccl[a-z ]* not (built|available)|mismatched",
    re.IGNORECASE,
)
# A place in C++ source code, such as "[../gloo/transport/tcp/pair.cc:534] ", and lines of a stack.
_SOURCE = re.compile(r"^\[[^]]*:\d+\]\s*")
_FRAME = re.compile(r"(frame #\d+:|#\d+ |at |exception raised from |c\+\+ capturedtraceback)", re.IGNORECASE)


class LostRankError(Exception):
    """A rank ended, or was missing from a collective for too long.

    It is not an `RcdpError`: the stage has not failed, and can be resumed.

    Parameters
    ----------
    library : str
        Name of the library that reports it.
    message : str
    """

    def __init__(self, library: str, message: str) -> None:
        super().__init__(f"{library}: {message}")
        self.library = library
        self.message = message


class EngineFaultError(StageFailedError):
    """An engine, or NCCL or CUDA within it, failed for a reason of its own, which the message has."""


def reason_of(error: BaseException) -> str:
    """Return the text of an engine's error in one line, without places in C++ source code and stack frames.

    All sentences are included: NCCL's first line names a kind of error ("unhandled cuda error"), the last one its cause
    ("Last error: Duplicate GPU detected").
    """
    lines = [_SOURCE.sub("", line.strip()) for line in str(error).splitlines()]
    told = [line.rstrip(". ") for line in lines if line and not _FRAME.match(line)]
    return "; ".join(dict.fromkeys(told))[:LONGEST_REASON] or type(error).__name__


def engine_fault(error: BaseException) -> EngineFaultError | None:
    """Return the error to report if an engine failed for a reason of its own; None if a rank may be lost, or others.

    Parameters
    ----------
    error : Exception
        Of Horovod, or a `LostRankError`.
    """
    if not is_engines_error(error):
        return None
    library = error.library if isinstance(error, LostRankError) else HOROVOD
    text = error.message if isinstance(error, LostRankError) else reason_of(error)
    if not _FAULTS.search(text):
        return None
    return EngineFaultError(
        f"{library} failed: {text}. Lines of NCCL or CUDA above say more (NCCL_DEBUG=INFO for all of them); `rcdp "
        "doctor` sums once. The same command continues from the last checkpoint."
    )


def is_engines_error(error: BaseException) -> bool:
    """Return whether an engine raised an error: because a rank is lost, or for a reason of its own."""
    return isinstance(error, LostRankError) or is_horovods_error(error)


def is_lost_rank(error: BaseException) -> bool:
    """Return whether an engine raised an error because a rank is lost, as far as its text says."""
    return is_engines_error(error) and engine_fault(error) is None


def lost_rank_text(error: BaseException, comm: Communicator, stall_seconds: int) -> str:
    """Return the message of a rank that has lost another rank."""
    if isinstance(error, LostRankError):
        found = f"{error.library} reports: {error.message}"
    else:
        found = f"{HOROVOD} reports: {reason_of(error)}. Its lines above name a missing rank ('Missing ranks')"
    return (
        f"rank {comm.rank} of {comm.size} {MARK}: a rank ended or was missing from a collective for {stall_seconds} s "
        f"(run.stall_seconds). {found}. Find out why in that rank's output or the node's log, and start the same "
        "command again: it continues from the last checkpoint."
    )
