"""Recordings of CUDA graphs, for training steps and blocks of reservoir states, and streams beside the default one."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import torch

# A recording begins by waiting for the whole GPU, which ends one that is under way in another thread.
_ONE_AT_A_TIME = threading.Lock()
# Graphs whose recording failed: torch's allocators keep functions that refer to them.
_failed: list[Any] = []


@cache
def stream_for(purpose: str, device: torch.device) -> torch.cuda.Stream:
    """Return the stream of a purpose, one in a process.

    Torch has 32 streams and hands them out in turns: work on a stream that is handed out again, while a graph is
    recorded on it, would be recorded, too.
    """
    return torch.cuda.Stream(device)


def recorded(
    work: Callable[[], object], device: torch.device, stream: torch.cuda.Stream, pool: Any = None
) -> Callable[[], None]:
    """Return what launches the graph of a piece of work, without running it now.

    Other threads, which fetch states or measure the GPU, may go on meanwhile. If the recording fails, torch is left as
    before: on its stream, its random numbers outside of recordings, and its allocator freeing what streams have used.

    Parameters
    ----------
    work : callable
        Launches operations that read and write fixed tensors.
    device : torch.device
        The GPU.
    stream : torch.cuda.Stream
        On which the work is recorded; no other thread uses it (`stream_for`).
    pool : tuple of int, optional
        What ``torch.cuda.graph_pool_handle`` returned: graphs with the same one share their memory.

    Raises
    ------
    RuntimeError
        If the work cannot be recorded, for example because it reads a value back; `first_cause` is why.
    """
    with _ONE_AT_A_TIME, _no_garbage_collection(), torch.cuda.device(device):
        pool = torch.cuda.graph_pool_handle() if pool is None else pool
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                work()
        except BaseException:
            _failed.append(graph)
            graph.reset()
            _end_allocation(device, pool)
            raise
        finally:
            # Torch stays on the stream of a recording that fails.
            torch.cuda.set_stream(current)
    replay: Callable[[], None] = graph.replay
    return replay


def first_cause(error: BaseException) -> BaseException:
    """Return the error that led to others: the end of a recording that has failed raises one of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return error


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep graphs that nothing refers to any more from being freed, which ends a recording that is under way."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _end_allocation(device: torch.device, pool: Any) -> None:
    """Let the allocator leave the mode of recordings, unless it has: torch does not, if CUDA refuses to end one."""
    with suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(device.index or 0, pool)
        torch._C._cuda_releasePool(device.index or 0, pool)
