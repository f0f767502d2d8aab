"""The nearest neighbours of the rows of one class among themselves, in blocks, so that they need not all be held.

Blocks depend on the width of a row alone: neither the memory budget nor the number of cores changes a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from rcdp_hpc.data.budget import FITTED_BYTES, QUERY_BYTES
from rcdp_hpc.runtime.threads import available_cores

ReadRows = Callable[[slice | NDArray[np.int64]], NDArray[np.float32]]
Found = tuple[NDArray[np.float64], NDArray[np.int64]]
QUERY_ROWS = 512
# scikit-learn turns 256 rows at a time into float64: for wider rows that is too much memory.
WIDEST = 2**14


def nearest_rows(
    read: ReadRows,
    rows: int,
    searched: NDArray[np.int64],
    neighbours: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> NDArray[np.int64]:
    """Find the nearest other rows of some rows, nearest first.

    Where rows are equal, another one may be found before the row itself, or in its stead: it is never left among its
    own neighbours.

    Parameters
    ----------
    read : callable
        Returns some of the rows, flattened, shape (n, width).
    rows : int
        How many there are, more than `neighbours`.
    searched : ndarray of int64, shape (n,)
        The rows whose neighbours are wanted.
    neighbours : int
        How many others to find.
    advance : callable
        Told how many rows have been searched; may raise to stop. Where rows take several blocks, a row is told once.

    Returns
    -------
    ndarray of int64, shape (n, neighbours)
    """
    width = read(slice(0, 1)).shape[1]
    fitted, asked = _block(FITTED_BYTES, width, rows), min(QUERY_ROWS, _block(QUERY_BYTES, width, rows))
    queries = [searched[start : start + asked] for start in range(0, len(searched), asked)]
    distance = np.empty((len(searched), 0))
    place = np.empty((len(searched), 0), np.int64)
    # Each block is searched on one thread, however many are searched at once.
    with ThreadPoolExecutor(available_cores(), initializer=threadpool_limits, initargs=(1,)) as pool:
        try:
            for start in range(0, rows, fitted):
                search = _search(read(slice(start, start + fitted)), neighbours + 1)
                found: list[Found] = []
                last = start + fitted >= rows
                running: deque[Future[Found]] = deque()
                # The rows of queries that wait are not read, so few of them wait.
                for block in queries:
                    if len(running) > 2 * available_cores():
                        found.append(running.popleft().result())
                    running.append(pool.submit(lambda block, search: search(read(block)), block, search))
                    advance(len(block) if last else 0)
                found += [waiting.result() for waiting in running]
                distance, place = _nearer(
                    (distance, place),
                    (np.concatenate([d for d, _ in found]), np.concatenate([p for _, p in found]) + start),
                    neighbours + 1,
                )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return _without_own(place, searched)


def _block(size: int, width: int, rows: int) -> int:
    return max(1, min(rows, size // (4 * width)))


def _search(x: NDArray[np.float32], count: int) -> Callable[[NDArray[np.float32]], Found]:
    """Return a function that finds the `count` rows of `x` nearest to given ones, fewer where `x` has fewer."""
    count = min(count, len(x))
    if x.shape[1] <= WIDEST:
        fitted = NearestNeighbors(n_neighbors=count).fit(x)
        return lambda wanted: fitted.kneighbors(wanted)
    base = x.astype(np.float64)
    square = np.einsum("ij,ij->i", base, base)

    def search(wanted: NDArray[np.float32]) -> Found:
        asked = wanted.astype(np.float64)
        far = square - 2 * asked @ base.T + np.einsum("ij,ij->i", asked, asked)[:, None]
        place = np.argsort(far, axis=1, kind="stable")[:, :count]
        return np.sqrt(np.maximum(np.take_along_axis(far, place, 1), 0)), place

    return search


def _nearer(first: Found, second: Found, count: int) -> Found:
    """Merge what two blocks gave; at equal distance the earlier block comes first."""
    distance = np.concatenate([first[0], second[0]], axis=1)
    place = np.concatenate([first[1], second[1]], axis=1)
    if not first[0].shape[1]:
        return distance, place
    order = np.argsort(distance, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(distance, order, 1), np.take_along_axis(place, order, 1)


def _without_own(nearest: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take each row's own index, or the last where it is not there, out of its list, shape (n, k + 1)."""
    is_own = nearest == own[:, None]
    place = np.where(is_own.any(axis=1), is_own.argmax(axis=1), nearest.shape[1] - 1)
    others = np.arange(nearest.shape[1]) != place[:, None]
    return nearest[others].reshape(len(nearest), nearest.shape[1] - 1)
