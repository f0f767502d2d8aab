"""Errors that say that another rank is lost: it ended, or was missing from a collective for too long."""

from __future__ import annotations

import re

from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.horovod import is_horovods_error

# cluster/job.sh leaves out messages with these words when it looks for the cause of a failure.
MARK = "has lost another rank"


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


def reason_of(error: BaseException) -> str:
    """Return the first sentence of an error of torch, without the place in torch's source code."""
    first, *_ = str(error).splitlines() or [""]
    return re.sub(r"^\[[^]]*\]\s*", "", first).partition(". ")[0].rstrip(".") or type(error).__name__


def is_lost_rank(error: BaseException) -> bool:
    """Return whether an engine raised an error because a rank is lost."""
    return isinstance(error, LostRankError) or is_horovods_error(error)


def lost_rank_text(error: BaseException, comm: Communicator, stall_seconds: int) -> str:
    """Return the message of a rank that has lost another rank."""
    if isinstance(error, LostRankError):
        found = f"{error.library} reports: {error.message}"
    else:
        found = "Horovod's lines above name the rank ('Missing ranks') or its error"
    return (
        f"rank {comm.rank} of {comm.size} {MARK}: a rank ended or was missing from a collective for {stall_seconds} s "
        f"(run.stall_seconds). {found}. Find out why in that rank's output or the node's log, and start the same "
        "command again: it continues from the last checkpoint."
    )
