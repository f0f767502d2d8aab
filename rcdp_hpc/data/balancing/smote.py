"""SMOTE as a plan: the samples of which each synthetic row is made. The row itself is computed when it is written."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from imblearn.over_sampling import SMOTE
from numpy.typing import NDArray

from rcdp_hpc.data.balancing.base import BalancingTask, OverSampling
from rcdp_hpc.data.balancing.neighbours import nearest_rows
from rcdp_hpc.data.balancing.row_numbers import class_seed, resample_row_numbers
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.class_table import named
from rcdp_hpc.data.rows import RowTable, synthetic_rows
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.threads import limit_threads

log = logging.getLogger(__name__)

Samples = Callable[[NDArray[np.int64]], NDArray[np.float32]]
READ_BYTES = 2**24


class Smote(OverSampling):
    """SMOTE, one class at a time."""

    def synthetic(self, task: BalancingTask) -> list[RowTable]:
        """Return the synthetic rows of each class that is below its target."""
        data = task.data
        draws = draw_smote(
            task.members,
            task.source.classes,
            data.smote_neighbours,
            task.seed,
            task.targets,
            # In a fold of a cross-validation, a class may have one sample only.
            repeats=data.folds > 0,
            quiet=task.quiet,
        )
        searched = sum(len(draw.searched) for draw in draws)
        size = 4 * math.prod(task.source.sample_shape)
        with Progress(task.title, searched, "samples", enabled=task.progress, unit_bytes=size) as bar:

            def advance(done: int) -> None:
                bar.advance(done)
                task.check_stop()

            return plan_smote(task.samples, task.members, draws, advance, Budget.of(data).held)


@dataclass(frozen=True, eq=False)
class SmoteDraw:
    """The random numbers of SMOTE for one class. They do not depend on the neighbours.

    Attributes
    ----------
    label : int
        Class index.
    neighbours : int
        Nearest neighbours k of this class; 0 repeats its only sample.
    rows : ndarray of int64, shape (n,)
        For each synthetic row, the sample that it starts from, as a position in the class.
    which : ndarray of int64, shape (n,)
        Which of that sample's neighbours the row goes towards: 0 is the nearest.
    step : ndarray of float32, shape (n,)
        Position on the segment, 0 to 1.
    """

    label: int
    neighbours: int
    rows: NDArray[np.int64]
    which: NDArray[np.int64]
    step: NDArray[np.float32]

    @property
    def searched(self) -> NDArray[np.int64]:
        """The samples whose neighbours are needed, ascending."""
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
    """Draw the random numbers that bring every class up to its target, with imbalanced-learn's SMOTE.

    The numbers of a class depend on its samples, its target and the seed; never on the other classes.

    Parameters
    ----------
    members : sequence of ndarray of int64
        Ascending indices of the training samples of each class.
    classes : sequence of str
        Names of the classes.
    neighbours : int
        Nearest neighbours k. A class with fewer than k + 1 samples uses all of them, with a warning.
    seed : int
        Seed of the random numbers.
    targets : sequence of int, optional
        Rows that each class should have; default: the size of the largest class.
    repeats : bool
        Repeat the sample of a class that has only one, instead of refusing the class.
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
) -> list[RowTable]:
    """Find the neighbours that the draws need, one class at a time.

    Neighbours are those of imbalanced-learn's SMOTE. The plan of a class depends on its draw and its samples; never on
    the other classes, the number of threads, or the room.

    Parameters
    ----------
    samples : callable
        Returns the float32 samples of some indices, shape (n, *sample_shape).
    members : sequence of ndarray of int64
        As for `draw_smote`.
    draws : sequence of SmoteDraw
        The result of `draw_smote`.
    advance : callable
        Called with the number of samples whose neighbours have been found; may raise to stop.
    room : int
        Bytes of samples that may be in memory; a larger class is read again for each of its blocks.

    Returns
    -------
    list of RowTable
        One for each draw: row i is x[source] + step * (x[neighbour] - x[source]).

    References
    ----------
    N. V. Chawla, K. W. Bowyer, L. O. Hall, W. P. Kegelmeyer, "SMOTE: synthetic minority over-sampling
    technique", Journal of Artificial Intelligence Research 16 (2002), 321-357 (eq. 1 of the method).
    """
    tables = []
    for draw in draws:
        indices, searched = members[draw.label], draw.searched
        if not draw.neighbours:
            tables.append(synthetic_rows(draw.label, indices[draw.rows], indices[draw.rows], draw.step))
            continue
        # With another number of threads, BLAS rounds differently, which can exchange neighbours at equal distance.
        with limit_threads(1):
            read = _reader(samples, indices, room)
            nearest = nearest_rows(read, len(indices), searched, draw.neighbours, advance)
        others = nearest[np.searchsorted(searched, draw.rows), draw.which]
        tables.append(synthetic_rows(draw.label, indices[draw.rows], indices[others], draw.step))
    return tables


def _check_neighbours(short: Sequence[tuple[str, int]], neighbours: int, repeats: bool, quiet: bool) -> None:
    """Refuse a class without any neighbour and log the classes with fewer than k; `short`: names and samples."""
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
    """Return a function that reads some rows of a class, flattened: from memory if the class fits into the room."""
    row_bytes = samples(indices[:1]).nbytes
    if row_bytes * len(indices) <= room:
        # Read in blocks: while a block is read, it is in memory two or more times.
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
    resample_row_numbers(sampler, count)
    return SmoteDraw(label, neighbours, sampler.rows, sampler.which, sampler.steps)


class _RecordingSMOTE(SMOTE):  # type: ignore[misc]
    """SMOTE that records the rows it would combine and combines none, so that it needs no neighbours."""

    rows: NDArray[np.int64]
    which: NDArray[np.int64]
    steps: NDArray[np.float32]

    def _validate_estimator(self) -> None:
        # Set here because imbalanced-learn clones an object that is given as k_neighbors.
        self.nn_k_ = _UnknownNeighbours(self.k_neighbors + 1)

    def _generate_samples(self, x: Any, nn_data: Any, nn_num: Any, rows: Any, cols: Any, steps: Any, *rest: Any) -> Any:
        self.rows = rows.astype(np.int64)
        self.which = cols.astype(np.int64)
        self.steps = steps[:, 0].astype(np.float32)
        return x[:0]


class _UnknownNeighbours:
    """Stands for a nearest-neighbour search: SMOTE's draws depend only on the number of neighbours of a row."""

    def __init__(self, count: int) -> None:
        self.count = count

    def fit(self, X: Any) -> _UnknownNeighbours:
        return self

    def kneighbors(self, X: Any, return_distance: bool = False) -> NDArray[np.int64]:
        return np.broadcast_to(np.int64(0), (len(X), self.count))
