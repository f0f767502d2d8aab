"""Gram sums over blocks that stream by: the next block is read while the last one computes, and no X is ever held."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.reservoir.activations import load_activation
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import one_hot

T = TypeVar("T")
_END = object()


def ahead(items: Iterable[T]) -> Generator[T]:
    """Yield the items, the next one being made in a thread of its own while the present one is worked on.

    What the making of an item raises is raised here. A consumer that stops early lets the thread end.
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

    def make() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((_END, None))
        except BaseException as error:  # carried to the consumer and raised there
            put((_END, error))

    thread = threading.Thread(target=make, daemon=True)
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
    sums: GramSums,
    slabs: Iterable[Iterable[tuple[Tensor, Tensor]]],
    classes: int,
    class_weights: NDArray[np.float64] | None = None,
) -> GramSums:
    """Add blocks of (states, labels) to the sums, flushing at the end of each slab.

    Parameters
    ----------
    sums : GramSums
    slabs : iterable of iterables of (torch.Tensor, torch.Tensor)
        States (rows, features) and class numbers (rows,). Slabs and their blocks must not depend on the number
        of ranks, so that the sums do not.
    classes : int
        Number of classes.
    class_weights : numpy.ndarray, shape (classes,), optional
        Weight of a row of each class.
    """
    for slab in slabs:
        for states, labels in slab:
            known = labels.cpu().numpy()
            weights = None if class_weights is None else class_weights[known]
            sums.add(states, torch.from_numpy(one_hot(known, classes)), weights)
        sums.flush()
    return sums


def bound_of_sums(activation: str, rows: int) -> float | None:
    """Return a bound on every sum over so many rows, None where states are unbounded."""
    bound = load_activation(activation).bound
    # Targets and shares of steps reach 1.
    return None if bound is None else rows * max(1.0, bound) ** 2
