"""The key-value store in which the ranks of torchrun find each other and report signs of life."""

from __future__ import annotations

import itertools
import os
import pickle
import time
from datetime import timedelta
from typing import Any, NoReturn

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.entry_channel import EntryChannel, exit_at_once
from rcdp_hpc.runtime.comm.launcher import Launch
from rcdp_hpc.runtime.comm.lost_ranks import reason_of

# A request of a heartbeat that takes longer fails, and the next one is tried.
REQUEST_SECONDS = 5.0
POLL_SECONDS = 0.05

_connected = itertools.count()


class TorchStore:
    """A connection to the store of torchrun, which outlives every rank.

    Without torchrun's agent, as under another program that sets its variables, rank 0 holds the store.

    Parameters
    ----------
    launch : Launch
    seconds : float
        How long to wait for the store.

    Raises
    ------
    InputError
        If the store cannot be reached.
    """

    def __init__(self, launch: Launch, seconds: float) -> None:
        import torch.distributed as distributed
        from torch.distributed.rendezvous import rendezvous

        self._distributed = distributed
        self._size = launch.size
        # Ranks that are started once more, or connect once more, do not read what the first ones wrote.
        self._scope = f"rcdp/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_connected)}"
        try:
            self._whole, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=seconds)))
        except (RuntimeError, ValueError) as error:
            address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise InputError(
                f"torchrun's store at {address} cannot be reached ({reason_of(error)}). Start all ranks with the same "
                "torchrun command; a port that is in use can be changed by --master-port."
            ) from None
        self.values = self.scoped("values")

    def scoped(self, name: str) -> Any:
        """Return a part of the store with keys of its own."""
        return self._distributed.PrefixStore(f"{self._scope}/{name}", self._whole)

    def heartbeats(self, launch: Launch) -> StoreChannel:
        """Return a channel with its own connection, because a request holds up others on the same one."""
        connection = self._distributed.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            self._size,
            False,
            timedelta(seconds=REQUEST_SECONDS),
            wait_for_workers=False,
        )
        parts = [self._distributed.PrefixStore(f"{self._scope}/{name}", connection) for name in ("heartbeat", "values")]
        return StoreChannel(launch, *parts)

    def exchange(self, rank: int, value: Any) -> list[Any]:
        """Return the picklable values of all ranks; every rank calls this once, before anything else connects them."""
        self.values.set(f"first/{rank}", pickle.dumps(value))
        keys = [f"first/{other}" for other in range(self._size)]
        for key in keys:
            while not self.values.check([key]):
                time.sleep(POLL_SECONDS)
        return [pickle.loads(entry) for entry in self.values.multi_get(keys)]

    def is_first_to_report(self) -> bool:
        """Return whether no other rank has reported why the job ends; this rank counts as reporting it from now on."""
        return _first_to_report(self.values)


class StoreChannel(EntryChannel):
    """Entries in torchrun's store.

    Parameters
    ----------
    launch : Launch
    entries : torch.distributed.Store
    values : torch.distributed.Store
        `TorchStore.values`, over the same connection as `entries`.
    """

    def __init__(self, launch: Launch, entries: Any, values: Any) -> None:
        super().__init__(launch.rank, launch.size)
        self._entries = entries
        self._values = values
        self._known: set[int] = set()

    def put(self, entry: bytes) -> None:
        """Replace the entry of this rank."""
        self._entries.set(str(self.rank), entry)

    def get(self, rank: int) -> bytes | None:
        """Return the entry of a rank; None if it has none yet."""
        if rank not in self._known and not self._entries.check([str(rank)]):
            return None
        self._known.add(rank)
        return bytes(self._entries.get(str(rank)))

    def abort(self, code: int) -> NoReturn:
        """Exit at once; torchrun then ends the other ranks, which do not report that this one is lost."""
        _first_to_report(self._values)
        exit_at_once(code)


def _first_to_report(values: Any) -> bool:
    try:
        return int(values.add("reports", 1)) == 1
    except RuntimeError:  # the store has ended: nobody else can have reported there
        return True
