"""Elastic runs: when a rank is lost under ``horovodrun --min-np``, the others continue from the last checkpoint.

The state of a run is in the run directory, and a command can resume from it on any number of ranks. An elastic run
therefore keeps no other state: Horovod connects the remaining ranks again, and they run the command again.
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
    """Run `work`, again after each loss of a rank, until it returns.

    Parameters
    ----------
    work : callable
        Collective; resumes from its files. It must not catch Horovod's error for a lost rank.
    stall_seconds : int
        Seconds after which a rank missing from a collective counts as lost.
    at_start : callable
        Called before `work` whenever the ranks are numbered.

    Returns
    -------
    int
        The value of `work`.
    """
    hvd = start_horovod(stall_seconds)
    from horovod.common.elastic import State

    class StateInFiles(State):  # type: ignore[misc]
        """The state that Horovod would save, restore and send. It is in files, so there is nothing to do."""

        def save(self) -> None:
            """Do nothing."""

        def restore(self) -> None:
            """Do nothing."""

        def sync(self) -> None:
            """Do nothing."""

    ranks = [hvd.size()]

    def run_work(_: Any) -> int:
        _renumber(hvd)
        at_start()
        if hvd.size() != ranks[-1]:
            log.warning("%s", _change_text(ranks[-1], hvd.size()))
            ranks.append(hvd.size())
        return work()

    return int(hvd.elastic.run(run_work)(StateInFiles(hvd.broadcast_object, hvd.rank)))


def _change_text(before: int, now: int) -> str:
    event = "a rank was lost" if now < before else "ranks were added"
    return f"{event}: {now} ranks continue instead of {before}, from the last checkpoint"


def _renumber(hvd: ModuleType) -> None:
    """Write the new rank and size into the environment, from which `launch.detect` reads them."""
    os.environ.update(HOROVOD_RANK=str(hvd.rank()), HOROVOD_SIZE=str(hvd.size()))
