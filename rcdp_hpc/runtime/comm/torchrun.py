"""The communicator for torchrun: torch.distributed with Gloo, in groups of its own.

torch.distributed's default group, which a user's program may have started, is not used.
"""

from __future__ import annotations

import itertools
import pickle
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import STAGE_POLL_SECONDS, Communicator, Operation
from rcdp_hpc.runtime.comm.entry_channel import exit_at_once
from rcdp_hpc.runtime.comm.interfaces import Node, choose_interface, this_node
from rcdp_hpc.runtime.comm.lost_ranks import LostRankError, reason_of
from rcdp_hpc.runtime.comm.node_memory import share_on_node
from rcdp_hpc.runtime.comm.roll_call import listening_seconds, raise_missing
from rcdp_hpc.runtime.comm.torch_store import TorchStore
from rcdp_hpc.runtime.comm.torch_world import LIBRARY, gloo_group, import_distributed, is_done_soon

# Gloo names no rank when a wait takes too long. Heartbeats and roll calls do, so Gloo itself has practically no limit.
GLOO_TIMEOUT = timedelta(days=365)


class TorchrunCommunicator(Communicator):
    """A group of ranks that torchrun has started.

    Parameters
    ----------
    store : TorchStore
    rank, size : int
        In the group.
    nodes : list of Node
        Of the ranks of the group.
    scope : str
        Name of the group in the store.
    names : list of int
        Ranks of the job that form the group, for messages.
    """

    library = LIBRARY
    can_split = True
    supports_horovod = False

    def __init__(
        self, store: TorchStore, rank: int, size: int, nodes: list[Node], scope: str = "all", names: Any = None
    ) -> None:
        self.rank = rank
        self.size = size
        self._store = store
        self._nodes = nodes
        self._scope = scope
        self._names: list[int] = names if names is not None else list(range(size))
        self._splits = itertools.count()
        self._meetings = itertools.count()
        distributed = import_distributed()
        self._operations = {
            "sum": distributed.ReduceOp.SUM,
            "max": distributed.ReduceOp.MAX,
            "min": distributed.ReduceOp.MIN,
        }
        self._options = distributed.AllreduceOptions
        self._values = store.scoped(f"group/{scope}")
        self._group = gloo_group(
            *(distributed, store.scoped(f"gloo/{scope}"), rank, size, choose_interface(nodes, rank), GLOO_TIMEOUT), ""
        )

    def barrier(self) -> None:
        """Return when every rank has called it."""
        self._finish(self._group.allreduce([torch.zeros(1)]))

    def wait_for_all(self) -> None:
        """Return when every rank has called it; sleep meanwhile."""
        key = f"meeting/{next(self._meetings)}"
        self._values.add(key, 1)
        while int(self._values.add(key, 0)) < self.size:
            time.sleep(STAGE_POLL_SECONDS)

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's small, picklable value on every rank."""
        message = _packed(value) if self.is_root else torch.empty(0, dtype=torch.uint8)
        size = torch.tensor([message.numel()])
        self._finish(self._group.broadcast(size, 0))
        received = message if self.is_root else torch.empty(int(size), dtype=torch.uint8)
        self._finish(self._group.broadcast(received, 0))
        return value if self.is_root else _unpacked(received)

    def allgather(self, value: Any) -> list[Any]:
        """Return the small, picklable values of all ranks on every rank."""
        message = _packed(value)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        self._finish(self._group.allgather([sizes], [torch.tensor([message.numel()])]))
        longest = max(int(size) for size in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: message.numel()] = message
        received = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
        self._finish(self._group.allgather([received], [padded]))
        return [_unpacked(part[: int(size)]) for part, size in zip(received, sizes, strict=True)]

    def allreduce(self, array: NDArray[Any], op: Operation = "sum") -> NDArray[Any]:
        """Return the elementwise sum, maximum or minimum over ranks."""
        result = np.array(array, copy=True, order="C")
        if not result.size:
            return result
        options = self._options()
        options.reduceOp = self._operations[op]
        self._finish(self._group.allreduce([torch.from_numpy(result)], options))
        return result

    def _finish(self, work: Any) -> None:
        """Return when an operation is done; call `report_missing_ranks` after `wait_limit` seconds, if it is set."""
        began, limit = time.monotonic(), self.wait_limit
        try:
            while not work.is_completed() and not is_done_soon(work):
                self._show_waiting()
                if limit and time.monotonic() - began > limit:
                    self.report_missing_ranks(limit)
                    began = time.monotonic()
            work.wait()
        except RuntimeError as error:
            raise LostRankError(f"{LIBRARY} (Gloo)", reason_of(error)) from error

    def _show_waiting(self) -> None:
        self._values.add(f"waits/{self.rank}", 1)

    def report_missing_ranks(self, seconds: float) -> None:
        """Look which ranks wait as well, and raise an error that names the others.

        Returns if all ranks wait.

        Parameters
        ----------
        seconds : float
            How long this rank has waited.

        Raises
        ------
        StageFailedError
            If a rank does not wait.
        """
        others = [rank for rank in range(self.size) if rank != self.rank]
        before = {rank: int(self._values.add(f"waits/{rank}", 0)) for rank in others}
        missing, first, until = set(others), self.rank, time.monotonic() + listening_seconds(seconds)
        while missing and time.monotonic() < until:
            self._show_waiting()
            time.sleep(0.2)
            waiting = {rank for rank in missing if int(self._values.add(f"waits/{rank}", 0)) > before[rank]}
            missing, first = missing - waiting, min(waiting | {first})
        named = [(self._names[rank], self._nodes[rank].identity[0]) for rank in sorted(missing)]
        raise_missing(named, seconds, self.rank == first)

    def is_first_to_report(self) -> bool:
        """Return whether no other rank has reported why the job ends."""
        return self._store.is_first_to_report()

    def scatter_rows(self, rows: NDArray[np.float64] | None, columns: int) -> NDArray[np.float64]:
        """Send each rank its rows of rank 0's."""
        total = self.broadcast(0 if rows is None else len(rows))
        bounds = np.arange(self.size + 1) * total // self.size
        counts = [int(count) * self.is_root for count in np.diff(bounds)]
        expected = [0] * self.size
        expected[0] = int(bounds[self.rank + 1] - bounds[self.rank])
        return self._exchange(np.zeros((0, columns)) if rows is None else rows, counts, expected)

    def gather_rows(self, rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Send all rows to rank 0 and stack them there."""
        lengths = self.allgather(len(rows))
        counts = [len(rows)] + [0] * (self.size - 1)
        stacked = self._exchange(rows, counts, lengths if self.is_root else [0] * self.size)
        return stacked if self.is_root else None

    def _exchange(self, rows: NDArray[np.float64], counts: list[int], expected: list[int]) -> NDArray[np.float64]:
        """Send rows to all ranks, in order of rank, and return those received, in order of rank."""
        sent = torch.from_numpy(np.array(rows, np.float64, order="C"))
        received = torch.empty((sum(expected), sent.shape[1]), dtype=torch.float64)
        self._finish(self._group.alltoall_base(received, sent, expected, counts))
        return np.asarray(received.numpy())

    def share_arrays(self, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Build the arrays on the first rank of each node, and map them into the memory of its other ranks."""
        first = {node.identity: rank for rank, node in reversed(list(enumerate(self._nodes)))}
        node = self.split(first[self._nodes[self.rank].identity])
        try:
            return share_on_node(node, make)
        finally:
            node.close()

    def split(self, color: int) -> TorchrunCommunicator:
        """Return the communicator of the ranks that passed the same color."""
        colors = self.allgather(color)
        members = [rank for rank, other in enumerate(colors) if other == color]
        return TorchrunCommunicator(
            self._store,
            members.index(self.rank),
            len(members),
            [self._nodes[rank] for rank in members],
            f"{self._scope}.{next(self._splits)}-{color}",
            [self._names[rank] for rank in members],
        )

    def send_array(self, array: NDArray[Any], to: int) -> None:
        """Send a contiguous array to another rank."""
        self._transfer(array, lambda tensor: self._group.send([tensor], to, 0))

    def receive_array(self, array: NDArray[Any], source: int) -> None:
        """Overwrite a contiguous array with one that another rank sends."""
        self._transfer(array, lambda tensor: self._group.recv([tensor], source, 0))

    def _transfer(self, array: NDArray[Any], start: Callable[[torch.Tensor], Any]) -> None:
        if not array.size:
            return
        # A limit of the wait would end Gloo's connections, so there is none: a lost rank ends the job by other means.
        try:
            start(torch.from_numpy(array.reshape(-1))).wait()
        except RuntimeError as error:
            raise LostRankError(f"{LIBRARY} (Gloo)", reason_of(error)) from error

    def abort(self, code: int) -> NoReturn:
        """Exit at once; torchrun then ends the other ranks."""
        self.is_first_to_report()
        exit_at_once(code)

    def close(self) -> None:
        """Close the connections of a group. Those of all ranks stay open until the processes end."""
        if self._scope != "all" and self._group is not None:
            self.barrier()
            self._group.shutdown()
            self._group = None


def _packed(value: Any) -> torch.Tensor:
    return torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)


def _unpacked(message: torch.Tensor) -> Any:
    return pickle.loads(message.numpy().tobytes())


def connect_torchrun(store: TorchStore, rank: int, size: int) -> TorchrunCommunicator:
    """Return the communicator of all ranks. Collective.

    Raises
    ------
    InputError
        On all ranks, if the nodes have no network in common.
    """
    found = store.exchange(rank, _attempt_node())
    first = next(((other, one) for other, one in enumerate(found) if isinstance(one, InputError)), None)
    if first is not None:
        raise first[1]
    return TorchrunCommunicator(store, rank, size, found)


def _attempt_node() -> Node | InputError:
    try:
        return this_node()
    except InputError as error:
        return error
