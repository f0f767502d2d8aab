"""Arrays that the ranks of a node share, in memory that no library manages."""

from __future__ import annotations

import logging
import math
import mmap
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import RcdpError
from rcdp_hpc.runtime.comm.base import Communicator, read_only

log = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
# Arrays begin at multiples of this number of bytes, as large as the widest vector register.
ALIGNMENT = 64

Layout = list[tuple[str, tuple[int, ...], np.dtype[Any], int]]


def share_on_node(node: Communicator, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Call `make` on rank 0 of the node and return its arrays, read-only, on all its ranks. Collective.

    The arrays are in a file in /dev/shm that has no name once all ranks have opened it, so it ends with the processes.
    Without enough memory there, every rank calls `make` and has arrays of its own.

    Parameters
    ----------
    node : Communicator
        The ranks of one node.
    make : callable

    Raises
    ------
    RcdpError
        The error of `make`, on all ranks.
    """
    arrays = make_on_root(node, make)
    if node.size > 1:
        layout, size = node.broadcast(_layout(arrays))
        memory = _shared_memory(node, size)
        if memory is None:
            arrays = arrays if node.is_root else make()
        else:
            views = {name: _view(memory, *place) for name, *place in layout}
            for name, array in arrays.items():
                views[name][...] = array
            node.barrier()
            arrays = views
    return read_only(arrays)


def make_on_root(node: Communicator, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Call `make` on rank 0 and return its arrays there, an empty dict elsewhere. Collective.

    Raises
    ------
    RcdpError
        The error of `make`, on all ranks.
    """
    arrays: dict[str, NDArray[Any]] = {}
    failure = None
    if node.is_root:
        try:
            arrays = make()
        except RcdpError as error:
            failure = error
    failure = node.broadcast(failure)
    if failure is not None:
        raise failure
    return arrays


def _layout(arrays: dict[str, NDArray[Any]]) -> tuple[Layout, int]:
    """Return name, shape, dtype and first byte of each array, and the number of bytes of all."""
    layout, end = [], 0
    for name, array in arrays.items():
        layout.append((name, array.shape, array.dtype, end))
        end += math.ceil(array.nbytes / ALIGNMENT) * ALIGNMENT
    return layout, max(end, 1)


def _view(memory: mmap.mmap, shape: tuple[int, ...], dtype: np.dtype[Any], start: int) -> NDArray[Any]:
    count = int(np.prod(shape))
    flat: NDArray[Any] = np.frombuffer(memory, dtype, count, start) if count else np.empty(0, dtype)
    return flat.reshape(shape)


def _shared_memory(node: Communicator, size: int) -> mmap.mmap | None:
    """Return memory that all ranks of the node share; None if one of them cannot have it."""
    path = _allocate(size) if node.is_root else None
    path = node.broadcast(path)
    memory = None
    if path is not None:
        with suppress(OSError), open(path, "r+b") as file:
            memory = mmap.mmap(file.fileno(), size)
    found = all(node.allgather(memory is not None))
    if node.is_root and path is not None:
        path.unlink()
    if not found and node.is_root:
        log.debug("no shared memory of %d bytes: each rank has its own arrays", size)
    return memory if found else None


def _allocate(size: int) -> Path | None:
    """Return a file of this size, whose memory is reserved; None if there is too little."""
    try:
        descriptor, name = tempfile.mkstemp(prefix="rcdp-", dir=SHARED_MEMORY)
    except OSError:
        return None
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        os.unlink(name)
        return None
    finally:
        os.close(descriptor)
    return Path(name)
