"""Work on every rank of a job: one that fails alone ends it, and an elastic one goes on without it."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable

from rcdp_hpc.errors import EXIT_FAILED, EXIT_INTERRUPTED, RcdpError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.connect import connect
from rcdp_hpc.runtime.comm.horovod import is_lost_rank
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.logs import log_to_terminal
from rcdp_hpc.runtime.os_errors import os_errors_explained
from rcdp_hpc.runtime.signals import EndedBySignal
from rcdp_hpc.runtime.text import Lines

log = logging.getLogger(__name__)


def run_on_all_ranks(work: Callable[[Communicator], int], stall_seconds: int = 600, quiet: bool = False) -> int:
    """Run `work` on every rank; in an elastic run again, where a rank was lost, on those that are left.

    Parameters
    ----------
    work : callable
        Given the communicator of the ranks that there are; returns an exit code.
    stall_seconds : int
        Patience with a missing rank.
    quiet : bool
        Whether warnings and errors alone are shown, in an elastic run.

    Returns
    -------
    int
        The exit code. Where `work` fails on one rank alone, its error is told and the whole job ended.

    Raises
    ------
    RcdpError
        Raised by `work` on all ranks alike.
    """
    if not detect().elastic:
        return _in_one_world(work, stall_seconds)
    from rcdp_hpc.runtime.comm.elastic import run_elastic

    return run_elastic(
        lambda: _in_one_world(work, stall_seconds),
        stall_seconds,
        at_start=lambda: log_to_terminal(detect().rank == 0, quiet),
    )


def _in_one_world(work: Callable[[Communicator], int], stall_seconds: int) -> int:
    comm = connect(stall_seconds)
    try:
        with os_errors_explained():
            return work(comm)
    except RcdpError as error:
        if error.agreed or comm.size == 1:
            raise
        log.error("rank %d: %s", comm.rank, error)
        comm.abort(error.exit_code)
    except Exception as error:
        if is_lost_rank(error):
            if detect().elastic:
                raise
            log.error("%s", lost(comm, stall_seconds))
            comm.abort(EXIT_FAILED)
        # Not an error we know how to explain: one traceback, from the rank it happened on, and no rank left waiting.
        log.error("rank %d of %d failed:\n%s", comm.rank, comm.size, Lines(traceback.format_exc()))
        if comm.size == 1:
            return EXIT_FAILED
        comm.abort(EXIT_FAILED)
    except (KeyboardInterrupt, EndedBySignal) as error:
        if comm.size == 1:
            raise
        # The others may wait for this rank, and rank 0 reports it.
        if comm.is_root:
            log.error("ended at once by %s", "Ctrl-C" if isinstance(error, KeyboardInterrupt) else error)
        else:
            time.sleep(1)
        comm.abort(EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else error.exit_code)
    finally:
        comm.close()


def lost(comm: Communicator, stall_seconds: int) -> str:
    """Return what a rank says that lost another; job scripts know it by "Horovod has ended"."""
    return (
        f"rank {comm.rank} of {comm.size}: Horovod has ended, because a rank left, or was missing from a collective "
        f"for {stall_seconds} s (run.stall_seconds). Horovod's own lines above name it ('Missing ranks') or its error. "
        "See what that rank or its node did, and start again: the job goes on from its last checkpoint."
    )
