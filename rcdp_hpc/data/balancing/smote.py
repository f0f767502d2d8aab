"""Balancing as a plan: which rows are made of which training rows, made only when they are written.

This module and `rcdp_hpc.data.balancing.whole_set` are the ones that know imbalanced-learn.
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

from rcdp_hpc.data.balancing.neighbours import nearest_rows
from rcdp_hpc.data.class_table import named
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


@dataclass(frozen=True, eq=False)
class SmoteDraw:
    """What SMOTE draws for one class before any neighbour is known.

    Attributes
    ----------
    label : int
        Class index.
    neighbours : int
        Nearest neighbours k of this class; 0 repeats its only sample.
    rows : ndarray of int64, shape (n,)
        The sample that each synthetic row is made from, as a place among the class's own.
    which : ndarray of int64, shape (n,)
        Which of that sample's neighbours is taken: 0 is the nearest.
    step : ndarray of float32, shape (n,)
        Place on the segment, 0 to 1.
    """

    label: int
    neighbours: int
    rows: NDArray[np.int64]
    which: NDArray[np.int64]
    step: NDArray[np.float32]

    @property
    def searched(self) -> NDArray[np.int64]:
        """The samples whose neighbours are needed, ascending: in a class that lacks little, few of its samples."""
        return np.unique(self.rows)


def draw_smote(
    members: Sequence[NDArray[np.int64]],
    classes: Sequence[str],
    neighbours: int,
    seed: int,
    targets: Sequence[int] | None = None,
    repeats: bool = False,
    quiet: bool = False,
) -> list[SmoteDraw]:
    """Draw what brings every class up to its target, as imbalanced-learn's SMOTE does, one class at a time.

    A class's draw depends on its number of rows, how many are wanted, and the seed; never on the other classes.

    Parameters
    ----------
    members : sequence of ndarray of int64
        Ascending indices of the training samples of each class: training samples and no others.
    classes : sequence of str
        Names of the classes.
    neighbours : int
        Nearest neighbours k. A class of fewer than k + 1 samples takes all its samples, with a warning.
    seed : int
        Seed of the draws.
    targets : sequence of int, optional
        Rows that each class shall have; default: as many as the largest.
    repeats : bool
        Repeat the sample of a class that has only one, as in a fold of a cross-validation, instead of refusing it.
    quiet : bool
        Do not warn of classes with fewer than k + 1 samples.

    Returns
    -------
    list of SmoteDraw
        One for each class that is below its target.

    Raises
    ------
    InputError
        If a class that needs synthetic rows has one sample, hence no neighbour, and `repeats` is False.
    """
    targets = targets or [max(len(indices) for indices in members)] * len(members)
    short = [label for label, indices in enumerate(members) if len(indices) < targets[label]]
    _check_neighbours([(classes[label], len(members[label])) for label in short], neighbours, repeats, quiet)
    used = {label: min(neighbours, len(members[label]) - 1) for label in short}
    return [_draw(label, len(members[label]), targets[label], used[label], seed) for label in short]


def plan_smote(
    samples: Samples,
    members: Sequence[NDArray[np.int64]],
    draws: Sequence[SmoteDraw],
    advance: Callable[[int], None] = lambda rows: None,
    room: int = 2**62,
) -> list[SyntheticPlan]:
    """Find the neighbours that a draw asks for, one class at a time.

    Neighbours are those of imbalanced-learn's SMOTE. A class's plan depends on its draw and its rows; never on the
    other classes, the number of threads, or the room.

    Parameters
    ----------
    samples : callable
        Returns the float32 samples of given indices, shape (n, *sample_shape).
    members : sequence of ndarray of int64
        As for `draw_smote`.
    draws : sequence of SmoteDraw
        What `draw_smote` returned.
    advance : callable
        Told how many samples have got their neighbours; may raise to stop.
    room : int
        Bytes of samples that may be held: a class beyond it is read again for each of its blocks.

    Returns
    -------
    list of SyntheticPlan
        One for each draw.

    References
    ----------
    N. V. Chawla, K. W. Bowyer, L. O. Hall, W. P. Kegelmeyer, "SMOTE: synthetic minority over-sampling
    technique", Journal of Artificial Intelligence Research 16 (2002), 321-357 (eq. 1 of the method).
    """
    plans = []
    for draw in draws:
        indices, searched = members[draw.label], draw.searched
        if not draw.neighbours:
            plans.append(SyntheticPlan(draw.label, indices[draw.rows], indices[draw.rows], draw.step))
            continue
        # BLAS on another number of threads rounds differently, which can exchange neighbours at equal distance.
        with limit_threads(1):
            read = _reader(samples, indices, room)
            nearest = nearest_rows(read, len(indices), searched, draw.neighbours, advance)
        others = nearest[np.searchsorted(searched, draw.rows), draw.which]
        plans.append(SyntheticPlan(draw.label, indices[draw.rows], indices[others], draw.step))
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


def class_seed(seed: int, label: int) -> int:
    """Return the seed of a class's draws."""
    return int(np.random.SeedSequence([seed, label]).generate_state(1)[0])


def _check_neighbours(short: Sequence[tuple[str, int]], neighbours: int, repeats: bool, quiet: bool) -> None:
    """Refuse a class without any neighbour, and log the classes that have fewer than k; `short`: names and samples."""
    for name, count in short:
        if count <= 1 and not repeats:
            raise InputError(
                f"class {name} has {count} training sample and so no neighbour to make synthetic rows with. Give it "
                "more samples, merge it with another class, or set data.balance = 'random_over' or 'none'."
            )
    small = [
        f"class {name} has {count} and " + (f"takes k = {count - 1}" if count > 1 else "repeats it")
        for name, count in short
        if count <= neighbours
    ]
    if small and not quiet:
        log.warning(
            "too few training samples for SMOTE with k = data.smote_neighbours = %d: %s", neighbours, named(small)
        )


def _reader(
    samples: Samples, indices: NDArray[np.int64], room: int
) -> Callable[[slice | NDArray[np.int64]], NDArray[np.float32]]:
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


def _draw(label: int, count: int, target: int, neighbours: int, seed: int) -> SmoteDraw:
    """Let imbalanced-learn choose the rows of one class that are combined, and the steps between them."""
    if not neighbours:
        none = np.zeros(target - count, np.int64)
        return SmoteDraw(label, 0, none, none, none.astype(np.float32))
    sampler = _RecordingSMOTE(
        k_neighbors=neighbours, sampling_strategy={0: target}, random_state=class_seed(seed, label)
    )
    _resample(sampler, count)
    return SmoteDraw(label, neighbours, sampler.rows, sampler.which, sampler.steps)


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
    """SMOTE that records what it would combine instead of combining it, and so needs no neighbours yet."""

    rows: NDArray[np.int64]
    which: NDArray[np.int64]
    steps: NDArray[np.float32]

    def _validate_estimator(self) -> None:
        # imbalanced-learn adds the 1 for the sample itself only to a number, and clones an object.
        self.nn_k_ = _Unknown(self.k_neighbors + 1)

    def _generate_samples(self, x: Any, nn_data: Any, nn_num: Any, rows: Any, cols: Any, steps: Any, *rest: Any) -> Any:
        self.rows = rows.astype(np.int64)
        self.which = cols.astype(np.int64)
        self.steps = steps[:, 0].astype(np.float32)
        return x[:0]


class _Unknown:
    """Nearest neighbours that have not been looked for: the draws need only know how many each row will have."""

    def __init__(self, count: int) -> None:
        self.count = count

    def fit(self, X: Any) -> _Unknown:
        return self

    def kneighbors(self, X: Any, return_distance: bool = False) -> NDArray[np.int64]:
        return np.broadcast_to(np.int64(0), (len(X), self.count))
