"""Elastic runs: where a rank is lost under ``horovodrun --min-np``, the others go on from the last checkpoint.

What is committed lies in the run directory, and a command that is started again goes on from there, on any number of
ranks. So nothing is kept for the purpose: Horovod forms its world anew, and the command is run again in it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from rcdp_hpc.runtime.comm.horovod import start_horovod

log = logging.getLogger(__name__)


def run_elastic(work: Callable[[], int], stall_seconds: int, at_start: Callable[[], None]) -> int:
    """Run `work` until it comes to its end in a world that loses no rank.

    Parameters
    ----------
    work : callable
        Collective; goes on from what it left in files. Lets Horovod's error on a lost rank pass.
    stall_seconds : int
        Patience with a missing rank.
    at_start : callable
        Called before `work` whenever ranks were numbered anew.

    Returns
    -------
    int
        What `work` returned.
    """
    hvd = start_horovod(stall_seconds)
    from horovod.common.elastic import State

    class Files(State):  # type: ignore[misc]
        """What ranks have in common lies in files: nothing to save, to restore or to send."""

        def save(self) -> None:
            """Do nothing."""

        def restore(self) -> None:
            """Do nothing."""

        def sync(self) -> None:
            """Do nothing."""

    ranks = [hvd.size()]

    def once(_: Any) -> int:
        _renumber(hvd)
        at_start()
        if hvd.size() != ranks[-1]:
            log.warning("%s", _change(ranks[-1], hvd.size()))
            ranks.append(hvd.size())
        return work()

    return int(hvd.elastic.run(once)(Files(hvd.broadcast_object, hvd.rank)))


def _change(before: int, now: int) -> str:
    """Return what became of the world's ranks."""
    what = "a rank was lost" if now < before else "ranks were added"
    return f"{what}: {now} ranks go on instead of {before}, from the last checkpoint"


def _renumber(hvd: ModuleType) -> None:
    """Let the environment, where this process is asked for its rank, say what Horovod's new world does."""
    os.environ.update(HOROVOD_RANK=str(hvd.rank()), HOROVOD_SIZE=str(hvd.size()))
