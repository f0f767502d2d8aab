"""Balancing as a plan: which rows are made of which training rows, made only when they are written.

This module and `rcdp_hpc.data.balance_whole` are the ones that know imbalanced-learn.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from numpy.typing import NDArray

from rcdp_hpc.data.neighbours import nearest_rows
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.threads import limit_threads

log = logging.getLogger(__name__)

Samples = Callable[[NDArray[np.int64]], NDArray[np.float32]]
# What needs the rows of one class at a time, and so no more memory than it is given.
READ_BYTES = 2**24
STREAMED = ("smote", "random_over", "random_under", "none")


@dataclass(frozen=True, eq=False)
class SyntheticPlan:
    """Synthetic rows of one class: row i is x[source] + step * (x[neighbour] - x[source]).

    Attributes
    ----------
    label : int
        Class index.
    source, neighbour : ndarray of int64, shape (n,)
        Indices of the two samples in the source; of SMOTE, `neighbour` is one of the k nearest of `source`.
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
    targets: Sequence[int] | None = None,
    room: int = 2**62,
) -> list[SyntheticPlan]:
    """Plan the synthetic rows that bring every class up to its target, one class at a time.

    Neighbours and draws are those of imbalanced-learn's SMOTE. A class's plan depends on the rows of that class,
    how many are wanted, and the seed; never on the other classes, the number of threads, or the room.

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
    targets : sequence of int, optional
        Rows that each class shall have; default: as many as the largest.
    room : int
        Bytes of samples that may be held: a class beyond it is read again for each of its blocks.

    Returns
    -------
    list of SyntheticPlan
        One for each class that is below its target.

    Raises
    ------
    InputError
        If a class that needs synthetic rows has one sample, hence no neighbour.

    References
    ----------
    N. V. Chawla, K. W. Bowyer, L. O. Hall, W. P. Kegelmeyer, "SMOTE: synthetic minority over-sampling
    technique", Journal of Artificial Intelligence Research 16 (2002), 321-357 (eq. 1 of the method).
    """
    targets = _targets_of(members, targets)
    short = [label for label, indices in enumerate(members) if len(indices) < targets[label]]
    used = {label: _neighbours_for(classes[label], len(members[label]), neighbours) for label in short}
    plans = []
    for label in short:
        indices = members[label]
        # BLAS on another number of threads rounds differently, which can exchange neighbours at equal distance.
        with limit_threads(1):
            nearest = nearest_rows(_reader(samples, indices, room), len(indices), used[label], advance)
        rows, others, steps = _draw(nearest, targets[label] - len(indices), class_seed(seed, label))
        plans.append(SyntheticPlan(label, indices[rows], indices[others], steps))
    return plans


def plan_copies(members: Sequence[NDArray[np.int64]], targets: Sequence[int], seed: int) -> list[SyntheticPlan]:
    """Plan copies that bring every class up to its target: imbalanced-learn's RandomOverSampler, class by class."""
    plans = []
    for label, (indices, target) in enumerate(zip(members, targets, strict=True)):
        if len(indices) < target:
            chosen = _sampled(RandomOverSampler, len(indices), target, class_seed(seed, label))[len(indices) :]
            rows = indices[chosen]
            plans.append(SyntheticPlan(label, rows, rows.copy(), np.zeros(len(rows), np.float32)))
    return plans


def thinned(members: Sequence[NDArray[np.int64]], targets: Sequence[int], seed: int) -> list[NDArray[np.int64]]:
    """Return the samples of each class that stay: imbalanced-learn's RandomUnderSampler, class by class."""
    return [
        np.sort(indices[_sampled(RandomUnderSampler, len(indices), target, class_seed(seed, label))])
        if target < len(indices)
        else indices
        for label, (indices, target) in enumerate(zip(members, targets, strict=True))
    ]


def samples_to_search(members: Sequence[NDArray[np.int64]], targets: Sequence[int] | None = None) -> int:
    """Return how many samples `plan_smote` finds neighbours for."""
    targets = _targets_of(members, targets)
    return sum(len(indices) for indices, target in zip(members, targets, strict=True) if len(indices) < target)


def class_seed(seed: int, label: int) -> int:
    """Return the seed of a class's draws."""
    return int(np.random.SeedSequence([seed, label]).generate_state(1)[0])


def _targets_of(members: Sequence[NDArray[np.int64]], targets: Sequence[int] | None) -> Sequence[int]:
    return targets or [max(len(indices) for indices in members)] * len(members)


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


def _reader(samples: Samples, indices: NDArray[np.int64], room: int) -> Callable[[slice], NDArray[np.float32]]:
    """Return a function that reads some rows of a class, flattened: from memory where the class has room there."""
    row_bytes = samples(indices[:1]).nbytes
    if row_bytes * len(indices) <= room:
        # Read in blocks: on their way, samples are in memory twice and more.
        held = np.empty((len(indices), row_bytes // 4), np.float32)
        size = max(1, READ_BYTES // row_bytes)
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            held[start : start + size] = samples(part).reshape(len(part), -1)
        return lambda rows: held[rows]
    return lambda rows: samples(indices[rows]).reshape(len(indices[rows]), -1)


def _draw(
    nearest: NDArray[np.int64], wanted: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Let imbalanced-learn choose `wanted` pairs of rows of one class, and the steps between them."""
    sampler = _RecordingSMOTE(
        k_neighbors=nearest.shape[1] - 1, sampling_strategy={0: len(nearest) + wanted}, random_state=seed
    )
    sampler.nearest = nearest
    _resample(sampler, len(nearest))
    return sampler.rows, sampler.others, sampler.steps


def _sampled(sampler_type: Any, count: int, target: int, seed: int) -> NDArray[np.int64]:
    """Return which of `count` rows a sampler takes."""
    sampler = sampler_type(sampling_strategy={0: target}, random_state=seed)
    _resample(sampler, count)
    chosen: NDArray[np.int64] = sampler.sample_indices_
    return chosen[chosen < count]


def _resample(sampler: Any, count: int) -> None:
    """Run a sampler on the numbers of the rows of one class: it never sees the samples themselves."""
    # It refuses a single class: one more row stands for another one, and is never used.
    numbers, labels = np.arange(count + 1, dtype=np.float64)[:, None], np.zeros(count + 1, np.int64)
    labels[-1] = 1
    with warnings.catch_warnings():
        # It warns that the class outgrows the largest, which here is the class itself.
        warnings.filterwarnings("ignore", message="After over-sampling", category=UserWarning)
        sampler.fit_resample(numbers, labels)


class _RecordingSMOTE(SMOTE):  # type: ignore[misc]
    """SMOTE that knows the neighbours, and records what it would combine instead of combining it."""

    nearest: NDArray[np.int64]
    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    steps: NDArray[np.float32]

    def _validate_estimator(self) -> None:
        # imbalanced-learn adds the 1 for the sample itself only to a number, and clones an object.
        self.nn_k_ = _Known(self.nearest)

    def _generate_samples(self, x: Any, nn_data: Any, nn_num: Any, rows: Any, cols: Any, steps: Any, *rest: Any) -> Any:
        self.rows = rows.astype(np.int64)
        self.others = nn_num[rows, cols].astype(np.int64)
        self.steps = steps[:, 0].astype(np.float32)
        return x[:0]


class _Known:
    """Nearest neighbours that have been found."""

    def __init__(self, nearest: NDArray[np.int64]) -> None:
        self.nearest = nearest

    def fit(self, X: Any) -> _Known:
        return self

    def kneighbors(self, X: Any, return_distance: bool = False) -> NDArray[np.int64]:
        return self.nearest
