"""Gram sums over a stream of blocks: the next block is read while the current one is added; X is never in memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.reservoir.activations import load_activation
from rcdp_hpc.reservoir.gram import Sums
from rcdp_hpc.runtime.threads import for_thread

T = TypeVar("T")
_END = object()


def ahead(items: Iterable[T]) -> Generator[T]:
    """Yield the items; a thread computes the next item while the caller uses the current one.

    Errors of the iterable are raised here. The thread ends if the caller stops early.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=1)
    ended = threading.Event()

    def put(item: Any) -> bool:
        while not ended.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((_END, None))
        except BaseException as error:  # raised in the caller's thread
            put((_END, error))

    thread = threading.Thread(target=for_thread(produce), daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        ended.set()
        thread.join()


def sum_slabs(
    sums: Sums,
    slabs: Iterable[Iterable[tuple[Tensor, Tensor]]],
    class_weights: NDArray[np.float64] | None = None,
) -> Sums:
    """Add blocks of (states, labels) to the sums, flushing at the end of each slab.

    Parameters
    ----------
    sums : GramSums or DeviceSums
    slabs : iterable of iterables of (torch.Tensor, torch.Tensor)
        States (rows, features) and class numbers (rows,). Slabs and their blocks must not depend on the number of
        ranks; then the sums do not either.
    class_weights : numpy.ndarray, shape (classes,), optional
        Weight of a row of each class.
    """
    for slab in slabs:
        for states, labels in slab:
            sums.add_labelled(states, labels, class_weights)
        sums.flush()
    return sums


def bound_of_sums(activation: str, rows: int) -> float | None:
    """Return a bound of the absolute value of every sum over this number of rows, None if states are unbounded."""
    return largest_sum(load_activation(activation).bound, rows)


def largest_sum(bound: float | None, rows: int) -> float | None:
    """Return a bound of the absolute value of every sum over the rows, None without a bound of the features.

    Parameters
    ----------
    bound : float or None
        Largest absolute value of a feature.
    rows : int
    """
    # Targets and shares of steps reach 1.
    return None if bound is None else rows * max(1.0, bound) ** 2
