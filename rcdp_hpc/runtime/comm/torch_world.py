"""Process groups of torch.distributed over the ranks of any communicator.

The groups are private: torch.distributed's default group, which a user's program or torchrun may have, is not used.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import STEP_POLL_SECONDS, Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root
from rcdp_hpc.runtime.comm.gpus import gpu_of_rank
from rcdp_hpc.runtime.comm.interfaces import GLOO_INTERFACE, Interface, agree_on_interface
from rcdp_hpc.runtime.comm.lost_ranks import LostRankError, engine_fault, reason_of

log = logging.getLogger(__name__)

NCCL_INTERFACE = "NCCL_SOCKET_IFNAME"
LIBRARY = "torch.distributed"
# Multiple of the stall seconds after which Gloo and NCCL give up, and seconds added to it. They name no rank, so the
# heartbeats and the roll call, which do, should report first.
TIMEOUT_FACTOR = 1.5
TIMEOUT_EXTRA = 30
# A wait returns to Python this often: for signals, and to see whether ranks are missing.
WAIT_SECONDS = 1.0
_OTHERWISE = ", or use parallel.engine = 'horovod'"


def import_distributed() -> Any:
    """Return ``torch.distributed``.

    Raises
    ------
    InputError
        If this torch was built without it.
    """
    import torch.distributed as distributed

    if not distributed.is_available() or not distributed.is_gloo_available():
        raise InputError(f"torch {torch.__version__} was built without torch.distributed or without Gloo")
    return distributed


class TorchWorld:
    """The process groups of all ranks of a communicator. All methods are collective.

    Parameters
    ----------
    comm : Communicator
    stall_seconds : int
        Seconds to wait for a rank.
    host, gpu : torch.distributed.ProcessGroup
        For tensors in host memory (Gloo), and for those of GPUs (NCCL). Without the latter, tensors of GPUs are summed
        by way of host memory.

    Attributes
    ----------
    backend : str
        "NCCL" or "Gloo".
    """

    def __init__(self, comm: Communicator, stall_seconds: int, host: Any, gpu: Any = None) -> None:
        self.comm = comm
        self.stall_seconds = stall_seconds
        self.backend = "NCCL" if gpu is not None else "Gloo"
        self._host = host
        self._gpu = gpu

    def sum_in_place(self, values: list[torch.Tensor]) -> None:
        """Replace contiguous tensors by their sums over ranks, with one message for each of them."""
        self._run(values, lambda group, tensors: [group.allreduce([tensor]) for tensor in tensors])

    def broadcast_in_place(self, values: list[torch.Tensor]) -> None:
        """Replace contiguous tensors by those of rank 0."""
        self._run(values, lambda group, tensors: [group.broadcast(tensor, 0) for tensor in tensors])

    def exchange(self, sent: torch.Tensor, counts: list[int], received_counts: list[int]) -> torch.Tensor:
        """Send rows to all ranks, and return the received rows in order of rank.

        Parameters
        ----------
        sent : torch.Tensor, shape (n, values)
            The rows for rank 0, then those for rank 1, and so on.
        counts, received_counts : list of int
            Number of rows for each rank, and from each rank.
        """
        received = sent.new_empty((sum(received_counts), *sent.shape[1:]))

        def start(group: Any, tensors: list[torch.Tensor]) -> list[Any]:
            return [group.alltoall_base(tensors[1], tensors[0], received_counts, counts)]

        self._run([sent, received], start)
        return received

    def _run(self, values: list[torch.Tensor], start: Callable[[Any, list[torch.Tensor]], list[Any]]) -> None:
        """Start operations on tensors and wait for them: on the tensors themselves, or on copies in host memory."""
        if self._host is None:
            raise InputError(f"{LIBRARY} is closed: start an engine again for another training")
        on_gpu = any(value.is_cuda for value in values)
        group = self._gpu if on_gpu and self._gpu is not None else self._host
        copied = on_gpu and group is self._host
        tensors = [value.cpu() for value in values] if copied else values
        try:
            for work in start(group, tensors):
                self._await(work, asynchronous=group is self._gpu)
        except RuntimeError as error:
            backend = "NCCL" if group is self._gpu else "Gloo"
            failure = LostRankError(f"{LIBRARY} ({backend})", reason_of(error))
            raise engine_fault(failure) or failure from error
        if copied:
            for value, tensor in zip(values, tensors, strict=True):
                value.copy_(tensor)

    def _await(self, work: Any, asynchronous: bool) -> None:
        """Return when an operation is done; call `report_missing_ranks` every `stall_seconds` until then.

        Parameters
        ----------
        work : torch.distributed.Work
        asynchronous : bool
            Whether the work's own wait returns before the operation is done, as on GPUs.
        """
        deadline = time.monotonic() + self.stall_seconds
        while not work.is_completed():
            if asynchronous:
                time.sleep(STEP_POLL_SECONDS)
            else:
                is_done_soon(work)
            if time.monotonic() > deadline and not work.is_completed():
                self.comm.report_missing_ranks(self.stall_seconds)
                deadline = time.monotonic() + self.stall_seconds
        work.wait()

    def close(self) -> None:
        """Close the connections, when every rank has called it."""
        if self._host is None:
            return
        self.comm.barrier()
        for group in filter(None, (self._gpu, self._host)):
            group.shutdown()
        self._host = self._gpu = None


def is_done_soon(work: Any) -> bool:
    """Wait for an operation of Gloo for `WAIT_SECONDS` at most, and return whether it is done."""
    try:
        work.wait(timedelta(seconds=WAIT_SECONDS))
    except RuntimeError:
        if work.is_completed():
            raise  # it has failed
        return False
    return True


def start_torch(comm: Communicator, stall_seconds: int, device: torch.device) -> TorchWorld:
    """Connect the ranks of a communicator by torch.distributed. Collective.

    Rank 0 opens a store in which the ranks find each other. It and Gloo listen on one interface only: loopback if all
    ranks are on one node, otherwise a network that the nodes share, or the interface that GLOO_SOCKET_IFNAME names.

    Parameters
    ----------
    comm : Communicator
    stall_seconds : int
        Seconds after which a missing rank is an error.
    device : torch.device
        The device of this rank.

    Raises
    ------
    InputError
        On all ranks, if the ranks cannot be connected.
    """
    distributed = agree(comm, import_distributed)
    interface = agree_on_interface(comm)
    if comm.is_root and not (interface.is_loopback or interface.is_private):
        log.warning(
            "the ranks connect through %s (%s), which is not a private address: set %s to a private interface",
            *(interface.name, interface.address, GLOO_INTERFACE),
        )
    timeout = timedelta(seconds=TIMEOUT_FACTOR * stall_seconds + TIMEOUT_EXTRA)
    store = _join_store(comm, distributed, interface, timeout)
    own = distributed.PrefixStore("rcdp.host", store)
    host = agree(comm, lambda: gloo_group(distributed, own, comm.rank, comm.size, interface, timeout))
    gpu = None
    if _each_has_a_gpu(comm, distributed, device):
        os.environ.setdefault(NCCL_INTERFACE, interface.name)
        gpu = agree(comm, lambda: _nccl_group(comm, distributed, store, timeout))
    return TorchWorld(comm, stall_seconds, host, gpu)


def _join_store(comm: Communicator, distributed: Any, interface: Interface, timeout: timedelta) -> Any:
    """Return the store of all ranks, which rank 0 holds."""

    def serve() -> tuple[Any, tuple[str, int]]:
        listening = socket.socket()
        try:
            listening.bind((interface.address, 0))
            listening.listen(max(128, comm.size))
            address = listening.getsockname()
            # The store takes the socket over: by itself it would listen on all interfaces.
            store = distributed.TCPStore(
                *(*address, comm.size, True, timeout),
                wait_for_workers=False,
                master_listen_fd=listening.detach(),
            )
        except (OSError, RuntimeError) as error:
            raise _unconnected(interface, error) from None
        return store, address

    served = agree_on_root(comm, serve)
    address = comm.broadcast(served[1] if served is not None else None)
    if served is not None:
        agree(comm, lambda: None)
        return served[0]
    return agree(
        comm,
        lambda: _connected(
            lambda: distributed.TCPStore(*address, comm.size, False, timeout, wait_for_workers=False), interface
        ),
    )


def gloo_group(
    distributed: Any,
    store: Any,
    rank: int,
    size: int,
    interface: Interface,
    timeout: timedelta,
    otherwise: str = _OTHERWISE,
) -> Any:
    """Return Gloo's group of ranks, which listens on one interface.

    Parameters
    ----------
    distributed : module
        ``torch.distributed``.
    store : torch.distributed.Store
        In which the ranks find each other; used by no other group.
    rank, size : int
        In the group.
    interface : Interface
    timeout : timedelta
        Of each operation.
    otherwise : str
        What to do instead if the ranks cannot be connected, for the message.

    Raises
    ------
    InputError
        If the ranks cannot be connected.
    """
    before = os.environ.get(GLOO_INTERFACE)
    os.environ[GLOO_INTERFACE] = before or interface.name
    try:
        return _connected(lambda: distributed.ProcessGroupGloo(store, rank, size, timeout), interface, otherwise)
    finally:
        # Only the user's choice stays: the ranks of a later group may be on other nodes.
        if before is None:
            del os.environ[GLOO_INTERFACE]


def _connected(connect: Callable[[], Any], interface: Interface, otherwise: str = _OTHERWISE) -> Any:
    """Return the value of `connect`; raise an `InputError` if a connection fails."""
    try:
        return connect()
    except RuntimeError as error:
        raise _unconnected(interface, error, otherwise) from None


def _unconnected(interface: Interface, error: Exception, otherwise: str = _OTHERWISE) -> InputError:
    return InputError(
        f"{LIBRARY} cannot connect the ranks through the interface {interface.name} ({interface.address}): "
        f"{reason_of(error)}. Set {GLOO_INTERFACE} to the interface that connects the nodes{otherwise}."
    )


def _each_has_a_gpu(comm: Communicator, distributed: Any, device: torch.device) -> bool:
    """Return whether every rank has a GPU of its own, which NCCL needs, and NCCL is available. Collective."""
    gpus = comm.allgather(gpu_of_rank(device) if device.type == "cuda" and distributed.is_nccl_available() else None)
    found = None not in gpus and len(set(gpus)) == len(gpus)
    if device.type == "cuda" and not found and comm.is_root:
        log.warning("torch has no NCCL, or a rank no GPU: sums go through host memory (Gloo), which is slower")
    return found


def _nccl_group(comm: Communicator, distributed: Any, store: Any, timeout: timedelta) -> Any:
    options = distributed.ProcessGroupNCCL.Options()
    options._timeout = timeout
    try:
        return distributed.ProcessGroupNCCL(distributed.PrefixStore("rcdp.gpu", store), comm.rank, comm.size, options)
    except RuntimeError as error:
        raise InputError(f"NCCL cannot start: {reason_of(error)}. `rcdp doctor` shows what torch sees.") from None
