"""States that a GPU does not hold: stored in host memory or in a file, and copied batch by batch, ahead of the steps.

The thread that fetches batches (`rcdp_hpc.reservoir.stream.ahead`) works on a stream of its own (`SideStream`), so that
its copies run while the GPU computes the step before. Copies from page-locked memory need no processor.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.runtime.cuda_graphs import stream_for

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class HostStates:
    """Replacement for a tensor of states on another device, shape (rows, width): rows are copied on access.

    Attributes
    ----------
    stored : torch.Tensor, shape (rows, width)
        In host memory, or mapped from a file.
    device : torch.device
        The device of the rows that are returned.
    """

    stored: torch.Tensor
    device: torch.device

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and of values in each."""
        rows, width = self.stored.shape
        return rows, width

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the states."""
        return self.stored.dtype

    def __getitem__(self, rows: torch.Tensor | slice) -> torch.Tensor:
        if isinstance(rows, slice):
            return self.stored[rows].to(self.device, non_blocking=self.stored.is_pinned())
        chosen = rows.cpu()
        # Torch uses page-locked memory again only when copies from it have ended.
        staged = torch.empty(
            (len(chosen), self.stored.shape[1]), dtype=self.dtype, pin_memory=self.device.type == "cuda"
        )
        torch.index_select(self.stored, 0, chosen, out=staged)
        return staged.to(self.device, non_blocking=True)


class SideStream:
    """Runs work of a thread on a stream of its own, apart from the one of the steps; on a CPU, the work as it is.

    The stream begins when all work is done that the GPU was given before, such as the random keys of an epoch.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = None
        if device.type == "cuda":
            self._stream = stream_for("copies", device)
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def run(self, work: Callable[[], T], tensors: Callable[[T], Iterable[torch.Tensor]]) -> T:
        """Return the result of `work`, when everything that it started has ended.

        Parameters
        ----------
        work : callable
        tensors : callable
            Returns the tensors of a result, which the stream of the steps reads afterwards.
        """
        if self._stream is None:
            return work()
        # A new thread is on GPU 0, where a change of its stream would take memory.
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            result = work()
        # Only this thread waits. The memory of a tensor is used again when the steps have read it.
        self._stream.synchronize()
        for tensor in tensors(result):
            tensor.record_stream(torch.cuda.default_stream(self.device))
        return result


def host_tensor(rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor in host memory, shape (rows, width), from which a GPU copies by itself if pages can be locked.

    Torch's own allocator of such memory takes the next power of two, up to twice as much.
    """
    array = np.empty(rows * width * dtype.itemsize, np.uint8)
    lock_pages(array)
    # The tensor holds the array, so both end together.
    return torch.from_numpy(array).view(dtype).view(rows, width)


def lock_pages(array: NDArray[Any]) -> bool:
    """Lock the memory of an array until it is freed, so that a GPU copies from it by itself; return whether it is."""
    if not torch.cuda.is_available() or not array.size:
        return False
    runtime, address = torch.cuda.cudart(), array.ctypes.data
    # 0 is cudaSuccess.
    locked = int(runtime.cudaHostRegister(address, array.nbytes, 0)) == 0
    if locked:
        weakref.finalize(array, runtime.cudaHostUnregister, address)
    else:
        _forget_failure()
        log.info("host memory of the states cannot be locked (ulimit -l), so copies to the GPU take longer")
    return locked


def _forget_failure() -> None:
    """Let CUDA forget that a call failed: otherwise torch's next operation would raise the error as its own."""
    with suppress(RuntimeError):
        torch.ones(1, device="cuda")
