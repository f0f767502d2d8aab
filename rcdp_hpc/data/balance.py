"""SMOTE as a plan: which synthetic rows are made of which training rows, made only when they are written.

This is the one module that knows imbalanced-learn.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from imblearn.over_sampling import SMOTE
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.threads import available_cores, limit_threads

log = logging.getLogger(__name__)

Samples = Callable[[NDArray[np.int64]], NDArray[np.float32]]
QUERY_ROWS = 512


@dataclass(frozen=True, eq=False)
class SyntheticPlan:
    """Synthetic rows of one class: row i is x[source] + step * (x[neighbour] - x[source]).

    Attributes
    ----------
    label : int
        Class index.
    source, neighbour : ndarray of int64, shape (n,)
        Indices of the two samples in the source; `neighbour` is one of the k nearest of `source`.
    step : ndarray of float32, shape (n,)
        Place on the segment, 0 to 1.
    """

    label: int
    source: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    step: NDArray[np.float32]


def plan_smote(
    samples: Samples,
    members: Sequence[NDArray[np.int64]],
    classes: Sequence[str],
    neighbours: int,
    seed: int,
    advance: Callable[[int], None] = lambda rows: None,
) -> list[SyntheticPlan]:
    """Plan the synthetic rows that bring every class up to the largest one.

    Neighbours and draws come from imbalanced-learn's SMOTE. A class's plan depends on the rows of that class,
    how many are wanted, and the seed; never on the other classes or on the number of threads.

    Parameters
    ----------
    samples : callable
        Returns the float32 samples of given indices, shape (n, *sample_shape).
    members : sequence of ndarray of int64
        Ascending indices of the training samples of each class: training samples and no others.
    classes : sequence of str
        Names of the classes.
    neighbours : int
        Nearest neighbours k. A class of fewer than k + 1 samples takes all its samples, with a warning.
    seed : int
        Seed of the draws.
    advance : callable
        Told how many samples have got their neighbours; may raise to stop.

    Returns
    -------
    list of SyntheticPlan
        One for each class that is below the largest.

    Raises
    ------
    InputError
        If a class that needs synthetic rows has one sample, hence no neighbour.

    References
    ----------
    N. V. Chawla, K. W. Bowyer, L. O. Hall, W. P. Kegelmeyer, "SMOTE: synthetic minority over-sampling
    technique", Journal of Artificial Intelligence Research 16 (2002), 321-357 (eq. 1 of the method).
    """
    target = max(len(indices) for indices in members)
    short = [label for label, indices in enumerate(members) if len(indices) < target]
    used = {label: _neighbours_for(classes[label], len(members[label]), neighbours) for label in short}
    plans = []
    for label in short:
        indices = members[label]
        # BLAS on another number of threads rounds differently, which can exchange neighbours at equal distance.
        with limit_threads(1):
            rows, others, steps = _draw(
                samples(indices), target - len(indices), used[label], class_seed(seed, label), advance
            )
        plans.append(SyntheticPlan(label, indices[rows], indices[others], steps))
    return plans


def samples_to_search(members: Sequence[NDArray[np.int64]]) -> int:
    """Return how many samples `plan_smote` finds neighbours for."""
    target = max(len(indices) for indices in members)
    return sum(len(indices) for indices in members if len(indices) < target)


def class_seed(seed: int, label: int) -> int:
    """Return the seed of a class's draws."""
    return int(np.random.SeedSequence([seed, label]).generate_state(1)[0])


def _neighbours_for(name: str, count: int, neighbours: int) -> int:
    if count == 1:
        raise InputError(
            f"class {name} has 1 training sample and so no neighbour to make synthetic rows with. Give it more "
            "samples, merge it with another class, or set data.balance = 'none'."
        )
    if count <= neighbours:
        log.warning(
            "class %s has %d training samples: SMOTE takes k = %d instead of %d", name, count, count - 1, neighbours
        )
    return min(neighbours, count - 1)


def _draw(
    x: NDArray[np.float32], wanted: int, neighbours: int, seed: int, advance: Callable[[int], None]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Let imbalanced-learn choose `wanted` pairs of rows of one class, and the steps between them."""
    flat = x.reshape(len(x), -1)
    # It refuses a single class: a row of zeros stands for another one, and is never used.
    with_other = np.concatenate([flat, np.zeros_like(flat[:1])])
    labels = np.zeros(len(with_other), np.int64)
    labels[-1] = 1
    sampler = _RecordingSMOTE(k_neighbors=neighbours, sampling_strategy={0: len(x) + wanted}, random_state=seed)
    sampler.advance = advance
    with warnings.catch_warnings():
        # It warns that the class outgrows the largest, which here is the class itself.
        warnings.filterwarnings("ignore", message="After over-sampling", category=UserWarning)
        sampler.fit_resample(with_other, labels)
    return sampler.rows, sampler.others, sampler.steps


class _RecordingSMOTE(SMOTE):  # type: ignore[misc]
    """SMOTE that records what it would combine instead of combining it."""

    advance: Callable[[int], None]
    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    steps: NDArray[np.float32]

    def _validate_estimator(self) -> None:
        # imbalanced-learn adds the 1 for the sample itself only to a number, and clones an object.
        self.nn_k_ = _SelfFirst(n_neighbors=self.k_neighbors + 1)
        self.nn_k_.advance = self.advance

    def _generate_samples(self, x: Any, nn_data: Any, nn_num: Any, rows: Any, cols: Any, steps: Any, *rest: Any) -> Any:
        self.rows = rows.astype(np.int64)
        self.others = nn_num[rows, cols].astype(np.int64)
        self.steps = steps[:, 0].astype(np.float32)
        return x[:0]


class _SelfFirst(NearestNeighbors):  # type: ignore[misc]
    """Nearest neighbours of the fitted rows themselves, each row leading its own list.

    imbalanced-learn drops the first of k + 1 neighbours as the row itself. Where rows are equal, another one
    may come first, and the row would be left among its own neighbours.
    """

    advance: Callable[[int], None]

    def kneighbors(self, X: Any, return_distance: bool = False) -> Any:
        blocks = [slice(start, start + QUERY_ROWS) for start in range(0, len(X), QUERY_ROWS)]
        search = super().kneighbors
        found = []
        # Blocks are the same and each is searched on one thread, however many are searched at once.
        with ThreadPoolExecutor(available_cores(), initializer=threadpool_limits, initargs=(1,)) as pool:
            try:
                for block, nearest in zip(
                    blocks, pool.map(lambda rows: search(X[rows], return_distance=False), blocks), strict=True
                ):
                    found.append(_own_first(nearest, np.arange(block.start, block.start + len(nearest))))
                    self.advance(len(nearest))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return np.concatenate(found)


def _own_first(nearest: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move each row's own index to the front of its list, shape (n, k + 1), in place of the last if it is not there."""
    is_own = nearest == own[:, None]
    place = np.where(is_own.any(axis=1), is_own.argmax(axis=1), nearest.shape[1] - 1)
    for row in np.flatnonzero(place > 0):
        nearest[row, 1 : place[row] + 1] = nearest[row, : place[row]].copy()
    nearest[:, 0] = own
    return nearest
