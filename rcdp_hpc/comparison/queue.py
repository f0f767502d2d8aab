"""A queue of work for groups of ranks, in a folder that all of them see.

A group takes a piece of work by creating a folder with its name, which only one process can do. Groups need no messages
for that, so they may be ranks that cannot send any, as under horovodrun with Gloo.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree_on_root, run_on_root
from rcdp_hpc.runtime.files import os_errors_explained

PREFIX = ".queue-"
POLL_SECONDS = 0.2


class Queue:
    """Work that groups of ranks take one by one, in order.

    Parameters
    ----------
    folder : Path
        A folder that all ranks see, and that belongs to this job.
    comm : Communicator
        All ranks of the job. Collective.
    group : Communicator
        The group of this rank.
    """

    def __init__(self, folder: Path, comm: Communicator, group: Communicator) -> None:
        self._all = comm
        self._group = group

        def begin() -> str:
            remove_queues(folder)
            path = folder / f"{PREFIX}{uuid.uuid4().hex[:12]}"
            with os_errors_explained(path):
                path.mkdir(parents=True)
            return str(path)

        self._place = Path(run_on_root(comm, begin))

    def take(self, names: Sequence[str]) -> Iterator[str]:
        """Yield the names of the work that this group takes. Collective over the group."""
        for name in names:
            if self._group.broadcast(agree_on_root(self._group, lambda name=name: self._claim(name))):  # type: ignore
                yield name

    def _claim(self, name: str) -> bool:
        path = self._place / name
        with os_errors_explained(path):
            try:
                path.mkdir()
                return True
            except FileExistsError:
                return False

    def wait_for_all(self, name: str) -> None:
        """Return when every rank has called it with this name, possibly after hours. Collective."""
        if self._all.size > 1 and not self._all.can_split:
            # A barrier of Horovod that lasts longer than run.stall_seconds would end the job.
            meet(self._place, name, self._all.rank, self._all.size)
        self._all.wait_for_all()

    def close(self) -> None:
        """Remove the folder, after all groups have ended."""
        if self._all.is_root:
            with suppress(OSError):
                shutil.rmtree(self._place)


def meet(folder: Path, name: str, rank: int, size: int) -> None:
    """Return when every rank has called it with this folder and name. Ranks sleep meanwhile, and send no messages."""
    places = [folder / f"{name}-{other}" for other in range(size)]
    with os_errors_explained(folder):
        places[rank].mkdir(exist_ok=True)
        while not all(place.exists() for place in places):
            time.sleep(POLL_SECONDS)


def remove_queues(folder: Path) -> None:
    """Remove the queues of jobs that have ended."""
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            shutil.rmtree(path)
