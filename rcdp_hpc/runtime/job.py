"""Work on every rank of a job: an error on a single rank ends the job, a lost rank in an elastic job does not."""

from __future__ import annotations

import logging
import socket
import time
import traceback
from collections.abc import Callable

from rcdp_hpc.errors import EXIT_FAILED, EXIT_INTERRUPTED, RcdpError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.connect import connect
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.comm.lost_ranks import engine_fault, is_lost_rank, lost_rank_text
from rcdp_hpc.runtime.logs import log_to_terminal
from rcdp_hpc.runtime.os_errors import os_errors_explained
from rcdp_hpc.runtime.signals import EndedBySignal
from rcdp_hpc.runtime.text import Lines

log = logging.getLogger(__name__)


def run_on_all_ranks(work: Callable[[Communicator], int], stall_seconds: int = 600, quiet: bool = False) -> int:
    """Run `work` on every rank; in an elastic run, run it again on the remaining ranks after a rank is lost.

    If `work` fails on a single rank, the error is reported and the whole job ends.

    Parameters
    ----------
    work : callable
        Receives the communicator of all ranks and returns an exit code.
    stall_seconds : int
        Seconds without a sign of life from a rank after which the job ends, or the rank counts as lost.
    quiet : bool
        In an elastic run, show only warnings and errors.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    RcdpError
        If `work` raised it on all ranks.
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
        fault = engine_fault(error)
        if fault is not None:
            log.error("rank %d of %d (host %s): %s", comm.rank, comm.size, socket.gethostname(), fault)
            comm.abort(EXIT_FAILED)
        if is_lost_rank(error):
            if detect().elastic:
                raise
            if comm.is_first_to_report():
                log.error("%s", lost_rank_text(error, comm, stall_seconds))
            comm.abort(EXIT_FAILED)
        # An unexpected error: show the traceback of this rank, and leave no other rank waiting.
        log.error("rank %d of %d failed:\n%s", comm.rank, comm.size, Lines(traceback.format_exc()))
        if comm.size == 1:
            return EXIT_FAILED
        comm.abort(EXIT_FAILED)
    except (KeyboardInterrupt, EndedBySignal) as error:
        if comm.size == 1:
            raise
        # Other ranks may wait for this one. Only rank 0 reports the signal; the others give it time to do so.
        if comm.is_root and comm.is_first_to_report():
            log.error("ended at once by %s", "Ctrl-C" if isinstance(error, KeyboardInterrupt) else error)
        else:
            time.sleep(1)
        comm.abort(EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else error.exit_code)
    finally:
        comm.close()
