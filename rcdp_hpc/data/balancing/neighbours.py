"""Nearest neighbours of the rows of one class, searched in blocks, so that not all rows have to be in memory.

The size of a block depends only on the width of a row: neither the memory budget nor the number of cores changes a
result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from rcdp_hpc.data.budget import FITTED_BYTES, QUERY_BYTES
from rcdp_hpc.runtime.threads import available_cores

ReadRows = Callable[[slice | NDArray[np.int64]], NDArray[np.float32]]
# Distances and row numbers of the nearest rows, both of shape (queries, neighbours).
Nearest = tuple[NDArray[np.float64], NDArray[np.int64]]
Search = Callable[[NDArray[np.float32]], Nearest]
QUERY_ROWS = 512
# scikit-learn converts 256 rows at a time to float64, which takes too much memory for wider rows.
WIDEST = 2**14


def nearest_rows(
    read: ReadRows,
    rows: int,
    searched: NDArray[np.int64],
    neighbours: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> NDArray[np.int64]:
    """Find the nearest other rows of some rows, nearest first.

    If rows are equal, the search may return another one earlier than the row itself, or instead of it. A row is never
    among its own neighbours.

    Parameters
    ----------
    read : callable
        Returns some of the rows, flattened, shape (n, width).
    rows : int
        Number of rows, more than `neighbours`.
    searched : ndarray of int64, shape (n,)
        The rows whose neighbours are searched.
    neighbours : int
        Number of neighbours of each row.
    advance : callable
        Called with the number of rows whose search is complete; may raise to stop.

    Returns
    -------
    ndarray of int64, shape (n, neighbours)
    """
    width = read(slice(0, 1)).shape[1]
    fitted_rows = _block_rows(FITTED_BYTES, width, rows)
    query_rows = min(QUERY_ROWS, _block_rows(QUERY_BYTES, width, rows))
    queries = [searched[start : start + query_rows] for start in range(0, len(searched), query_rows)]
    nearest: Nearest = (np.empty((len(searched), 0)), np.empty((len(searched), 0), np.int64))
    # Each block is searched by one thread, however many blocks are searched at the same time.
    with ThreadPoolExecutor(available_cores(), initializer=threadpool_limits, initargs=(1,)) as pool:
        try:
            for start in range(0, rows, fitted_rows):
                search = _search(read(slice(start, start + fitted_rows)), neighbours + 1)
                # A row counts once, after the last block; `advance` may also stop the search earlier.
                last = start + fitted_rows >= rows
                blocks = list(_searched_blocks(pool, search, read, queries, advance if last else lambda _: advance(0)))
                distance = np.concatenate([block[0] for block in blocks])
                place = np.concatenate([block[1] for block in blocks]) + start
                nearest = _nearer(nearest, (distance, place), neighbours + 1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return _without_itself(nearest[1], searched)


def _searched_blocks(
    pool: ThreadPoolExecutor,
    search: Search,
    read: ReadRows,
    queries: Sequence[NDArray[np.int64]],
    advance: Callable[[int], None],
) -> Iterator[Nearest]:
    """Yield the nearest rows of each block of queries, in order."""
    running: deque[Future[Nearest]] = deque()
    for query in queries:
        # Only a few blocks wait, because the rows of a block are read when its search starts.
        if len(running) > 2 * available_cores():
            yield running.popleft().result()
        running.append(pool.submit(lambda query: search(read(query)), query))
        advance(len(query))
    for waiting in running:
        yield waiting.result()


def _block_rows(size: int, width: int, rows: int) -> int:
    return max(1, min(rows, size // (4 * width)))


def _search(x: NDArray[np.float32], count: int) -> Search:
    """Return a function that finds the `count` rows of `x` nearest to each query, or all if `x` has fewer."""
    count = min(count, len(x))
    if x.shape[1] <= WIDEST:
        fitted = NearestNeighbors(n_neighbors=count).fit(x)
        return lambda queries: fitted.kneighbors(queries)
    base = x.astype(np.float64)
    square = np.einsum("ij,ij->i", base, base)

    def search(queries: NDArray[np.float32]) -> Nearest:
        query = queries.astype(np.float64)
        distance = square - 2 * query @ base.T + np.einsum("ij,ij->i", query, query)[:, None]
        place = np.argsort(distance, axis=1, kind="stable")[:, :count]
        return np.sqrt(np.maximum(np.take_along_axis(distance, place, 1), 0)), place

    return search


def _nearer(first: Nearest, second: Nearest, count: int) -> Nearest:
    """Merge the results of two blocks; at equal distance, rows of the earlier block come first."""
    distance = np.concatenate([first[0], second[0]], axis=1)
    place = np.concatenate([first[1], second[1]], axis=1)
    if not first[0].shape[1]:
        return distance, place
    order = np.argsort(distance, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(distance, order, 1), np.take_along_axis(place, order, 1)


def _without_itself(nearest: NDArray[np.int64], searched: NDArray[np.int64]) -> NDArray[np.int64]:
    """Remove each searched row from its list, shape (n, k + 1); if it is not in the list, remove the last row."""
    is_itself = nearest == searched[:, None]
    removed = np.where(is_itself.any(axis=1), is_itself.argmax(axis=1), nearest.shape[1] - 1)
    others = np.arange(nearest.shape[1]) != removed[:, None]
    return nearest[others].reshape(len(nearest), nearest.shape[1] - 1)
