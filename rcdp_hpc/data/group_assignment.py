"""Assign whole groups of rows (a patient, a site) to parts so that each part has nearly its share of every class.

The aim is that of scikit-learn's StratifiedGroupKFold: no group is in two parts, and classes are divided as evenly as
the groups allow. Parts may have different shares, no part is empty, and a class is not lost to training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError

if TYPE_CHECKING:
    from rcdp_hpc.data.split import Split

# Passes in which each group is placed again, and the most groups for which that is done: with more groups, each is so
# small a share of a part that a better place gains nothing.
PASSES = 10
MOST_MOVED_GROUPS = 5000
TRAINING = 0


def assign_groups(
    y: NDArray[np.int64], groups: NDArray[np.int64], shares: Sequence[float], seed: int, folds: bool = False
) -> NDArray[np.int64]:
    r"""Assign the groups of rows to parts.

    With f_pc the fraction of the rows of class c in part p, and s_p the share of part p, the assignment keeps the sum

    .. math:: \Phi = \sum_p \sum_c (f_{pc} - s_p)^2

    small; all rows together count as one more class. Groups are placed one after another, those with large fractions of
    a class first, each where the sum over the groups so far is the smallest. Drawing the part at random by the shares
    would add at most :math:`(1 - \sum_p s_p^2) \sum_c g_c^2` on average for a group with the fractions g_c of the
    classes. The best part adds no more, so that

    .. math:: \Phi \le (1 - \sum_p s_p^2) \sum_g \sum_c g_c^2.

    Then single groups move as long as that lowers the sum. The bound does not hold if groups had to move because a part
    was empty or training had lost a class.

    Parameters
    ----------
    y : ndarray of int64, shape (N,)
        Class indices.
    groups : ndarray of int64, shape (N,)
        Number of each row's group; any numbers.
    shares : sequence of float
        Share of the rows of each part; they add up to 1.
    seed : int
        Seed of the order in which groups of similar size are placed.
    folds : bool
        Whether each part is held out in turn: a class is then spread over at least two parts. Otherwise the first part
        is for training and has every class.

    Returns
    -------
    ndarray of int64, shape (N,)
        Part of each row. A part is empty only if no group can be spared for it.
    """
    _, codes = np.unique(groups, return_inverse=True)
    state = _Assignment(y, codes.reshape(-1), np.asarray(shares, np.float64), folds)
    order = state.order(seed)
    for group in order:
        state.put(group, state.best_part(group))
    state.complete_classes()
    state.fill_empty()
    if len(order) <= MOST_MOVED_GROUPS:
        for _ in range(PASSES):
            if not sum(state.improve(group) for group in order):
                break
    return state.part[codes.reshape(-1)]


def grouped_split(
    y: NDArray[np.int64],
    groups: NDArray[np.int64],
    validation_fraction: float,
    test_fraction: float | None,
    seed: int,
) -> dict[Split, NDArray[np.int64]]:
    """Split rows so that each group is in one part; parameters and result as in `rcdp_hpc.data.split.split_indices`.

    Raises
    ------
    InputError
        If there are fewer groups than parts, or no group can be spared for a part.
    """
    test = test_fraction or 0.0
    names: list[Split] = ["train", "validation"] if test_fraction is None else ["train", "validation", "test"]
    number = len(np.unique(groups))
    if number < len(names):
        raise InputError(
            f"the split keeps groups on one side and needs at least {len(names)}, one for each of {', '.join(names)}; "
            f"the samples have {number}."
        )
    shares = [(1 - test) * (1 - validation_fraction), (1 - test) * validation_fraction, test][: len(names)]
    parts = assign_groups(y, groups, shares, seed)
    split = {name: np.flatnonzero(parts == part) for part, name in enumerate(names)}
    for name, rows in split.items():
        if not len(rows):
            raise InputError(
                f"the split keeps groups on one side, and no group can be spared for {name}: each of the others is the "
                f"only one of its part, or has the only samples of a class. There are {number} groups; give classes "
                "more of them."
            )
    return split


def groups_of_classes(y: NDArray[np.int64], groups: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the number of groups in which each class occurs, shape (classes,)."""
    _, codes = np.unique(groups, return_inverse=True)
    pairs = np.unique(codes.reshape(-1) * classes + y)
    return np.bincount(pairs % classes, minlength=classes)


class _Assignment:
    """Groups in parts, and the fractions of the classes that each part has beyond its share of the groups so far.

    All rows together are one more class, the last column of every table.
    """

    def __init__(
        self, y: NDArray[np.int64], codes: NDArray[np.int64], shares: NDArray[np.float64], folds: bool
    ) -> None:
        all_rows = int(y.max()) + 1
        keys = np.concatenate([codes * (all_rows + 1) + y, codes * (all_rows + 1) + all_rows])
        pairs, counts = np.unique(keys, return_counts=True)
        self._columns = pairs % (all_rows + 1)
        self._fractions = counts / np.bincount(np.append(y, np.full(len(y), all_rows)))[self._columns]
        self._starts = np.searchsorted(pairs, np.arange(int(codes.max()) + 2) * (all_rows + 1)).tolist()
        self._groups_of_class = np.bincount(self._columns)
        self._shares = shares
        self._folds = folds
        self._excess = np.zeros((len(shares), all_rows + 1))
        self._held = np.zeros((len(shares), all_rows + 1), np.int64)
        self.part = np.full(len(self._starts) - 1, -1, np.int64)

    def order(self, seed: int) -> list[int]:
        """Return the groups in the order in which they are placed: by size in powers of two, otherwise at random."""
        sizes = np.floor(np.log2(np.add.reduceat(self._fractions**2, self._starts[:-1])))
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(self._shares)])))
        shuffled = random.permutation(len(sizes))
        return shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist()  # type: ignore[no-any-return]

    def put(self, group: int, part: int) -> None:
        self._add(group, part, 1)
        self.part[group] = part

    def best_part(self, group: int) -> int:
        return int(np.argmin(self._costs(group)))

    def improve(self, group: int) -> bool:
        """Move a group to the part where the sum is the smallest; return whether it moved."""
        if not self._can_leave(group):
            return False
        old, costs = int(self.part[group]), self._costs_elsewhere(group)
        new = int(np.argmin(costs))
        # Rounding must not move groups of equal cost back and forth.
        if costs[new] > -1e-12:
            return False
        self._move(group, new)
        if self._lost(self._content(group)[0][:-1]).any():
            self._move(group, old)
            return False
        return True

    def complete_classes(self) -> None:
        """Give training each class, and spread the classes of folds over at least two of them, if groups allow it."""
        for label in range(len(self._groups_of_class) - 1):
            if self._lost(np.array([label]))[0]:
                self._move_cheapest(self._groups_with(label), None if self._folds else TRAINING)

    def fill_empty(self) -> None:
        """Move a group to each empty part."""
        for part in np.flatnonzero(self._held[:, -1] == 0).tolist():
            self._move_cheapest(filter(self._can_leave, range(len(self.part))), part)

    def _move_cheapest(self, groups: Iterable[int], part: int | None) -> None:
        """Move one of the groups to a part, or to the best of the others, where the sum grows the least."""
        best: tuple[float, int, int] | None = None
        for group in groups:
            costs = self._costs_elsewhere(group)
            new = int(np.argmin(costs)) if part is None else part
            if best is None or costs[new] < best[0]:
                best = float(costs[new]), group, new
        if best is not None:
            self._move(best[1], best[2])

    def _move(self, group: int, part: int) -> None:
        self._add(group, int(self.part[group]), -1)
        self.put(group, part)

    def _add(self, group: int, part: int, sign: int) -> None:
        columns, fractions = self._content(group)
        self._excess[:, columns] -= np.multiply.outer(self._shares, sign * fractions)
        self._excess[part, columns] += sign * fractions
        self._held[part, columns] += sign

    def _content(self, group: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the columns of a group's classes and of all rows, and its fraction of each."""
        rows = slice(self._starts[group], self._starts[group + 1])
        return self._columns[rows], self._fractions[rows]

    def _costs(self, group: int) -> NDArray[np.float64]:
        """Return half the growth of the sum if a group is put into each part, up to a constant."""
        columns, fractions = self._content(group)
        return self._excess[:, columns] @ fractions - self._shares * (fractions @ fractions)

    def _costs_elsewhere(self, group: int) -> NDArray[np.float64]:
        """Return half the growth of the sum if a group moves to each other part; infinite for its own."""
        old = int(self.part[group])
        self._add(group, old, -1)
        costs = self._costs(group)
        self.put(group, old)
        costs = costs - costs[old]
        costs[old] = np.inf
        return costs

    def _can_leave(self, group: int) -> bool:
        """Return whether the part of a group stays useful without it."""
        part = self.part[group]
        columns = self._content(group)[0] if part == TRAINING and not self._folds else [-1]
        return bool((self._held[part, columns] > 1).all())

    def _lost(self, classes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether training has no row of each class although it could have one."""
        if self._folds:
            return ((self._held[:, classes] > 0).sum(axis=0) < 2) & (self._groups_of_class[classes] > 1)
        return (self._held[TRAINING, classes] == 0) & (self._groups_of_class[classes] > 0)

    def _groups_with(self, label: int) -> list[int]:
        places = np.flatnonzero(self._columns == label)
        return (np.searchsorted(self._starts, places, side="right") - 1).tolist()  # type: ignore[no-any-return]
