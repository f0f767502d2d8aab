"""The stratified split, the order of rows in the shards, and the slab of each rank."""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.group_assignment import assign_groups, grouped_split, groups_of_classes
from rcdp_hpc.errors import InputError

log = logging.getLogger(__name__)

Split = Literal["train", "validation", "test", "reserve"]
# The parts of every source. Preparation can also write a reserve of synthetic training rows.
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
RESERVE: Split = "reserve"

# Each purpose has a random stream of its own, so that it does not depend on the numbers drawn for another one.
_KEEP, _SPLIT, _ORDER, _SAMPLE = 1, 2, 3, 4

# Rare classes that a warning names.
NAMED_CLASSES = 10
# With four samples, a class is present in training, validation and test.
FEWEST_DRAWN = 4


def uneven_indices(
    y: NDArray[np.int64], fractions: Sequence[float], classes: Sequence[str], seed: int, counts: Sequence[int] = ()
) -> NDArray[np.int64]:
    """Choose the training samples to use if a source is made uneven on purpose.

    Parameters
    ----------
    y : ndarray of int64, shape (N,)
        Class indices.
    fractions : sequence of float
        Share of each class to use, above 0 and at most 1, in class order; empty uses all samples. Each class has at
        least one sample.
    classes : sequence of str
        Names of the classes.
    seed : int
        Seed of the choice.
    counts : sequence of int, optional
        Number of samples of each class to use, 1 or more, in class order, instead of `fractions`.

    Returns
    -------
    ndarray of int64
        Indices into `y`, ascending.

    Raises
    ------
    InputError
        If there is not one share or number per class, or it is out of bounds or more than the class has.
    """
    if not (len(fractions) or len(counts)):
        return np.arange(len(y), dtype=np.int64)
    available = np.bincount(y, minlength=len(classes)).tolist()
    if len(counts):
        _check_counts(counts, available, classes)
        kept = list(counts)
    else:
        _check_fractions(fractions, classes)
        kept = [max(1, _rounded(share * most)) for share, most in zip(fractions, available, strict=True)]
    chosen = [_shuffled(np.flatnonzero(y == label), seed, label, _KEEP)[:number] for label, number in enumerate(kept)]
    return np.sort(np.concatenate(chosen))


def _check_fractions(fractions: Sequence[float], classes: Sequence[str]) -> None:
    if len(fractions) != len(classes):
        raise InputError(
            f"data.class_keep_fractions has {len(fractions)} entries for {len(classes)} classes: give one for each "
            "class."
        )
    for name, share in zip(classes, fractions, strict=True):
        if not 0 < share <= 1:
            raise InputError(f"data.class_keep_fractions: {share} of class {name} must be above 0 and at most 1.")


def _check_counts(counts: Sequence[int], available: Sequence[int], classes: Sequence[str]) -> None:
    key = "data.class_keep_counts"
    if len(counts) != len(classes):
        raise InputError(f"{key} has {len(counts)} entries for {len(classes)} classes: give one for each class.")
    for name, number, most in zip(classes, counts, available, strict=True):
        if number < 1:
            raise InputError(f"{key}: {number} of class {name} must be 1 or more.")
        if number > most:
            raise InputError(
                f"{key}: class {name} should keep {number} training samples and has {most}, after validation and test "
                "are split off: give at most this number, or use data.class_keep_fractions."
            )


def sample_indices(y: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Draw at most `most` rows with the class proportions of all rows, but at least four rows of each class.

    Parameters
    ----------
    y : ndarray of int64, shape (N,)
        Class indices.
    most : int
        Number of rows; 0 takes all.
    seed : int
        Seed of the draw.

    Returns
    -------
    ndarray of int64
        Indices into `y`, ascending.
    """
    if not 0 < most < len(y):
        return np.arange(len(y), dtype=np.int64)
    drawn = []
    for label in np.unique(y):
        members = _shuffled(np.flatnonzero(y == label), seed, int(label), _SAMPLE)
        drawn.append(members[: max(FEWEST_DRAWN, _rounded(most * len(members) / len(y)))])
    return np.sort(np.concatenate(drawn))


def split_indices(
    y: NDArray[np.int64],
    validation_fraction: float,
    test_fraction: float | None,
    seed: int,
    may_be_empty: bool = False,
    groups: NDArray[np.int64] | None = None,
) -> dict[Split, NDArray[np.int64]]:
    """Split rows at random so that each part has the class proportions of the whole.

    The test takes `test_fraction` of each class, the validation `validation_fraction` of the remaining rows, both
    rounded and at least one row. The first two rows of a class are reserved for training, the third for the test and
    the fourth for validation. A class of 4 rows (3 without a test part) is therefore present in each part.

    Parameters
    ----------
    y : ndarray of int64, shape (N,)
        Class indices.
    validation_fraction, test_fraction : float
        Shares held out; None as test fraction makes no test part.
    seed : int
        Seed of the split.
    may_be_empty : bool
        Whether parts may have no row: those of one unit of several.
    groups : ndarray of int64, shape (N,), optional
        Number of each row's group, which is in one part (`rcdp_hpc.data.group_assignment.grouped_split`).

    Returns
    -------
    dict
        Ascending int64 indices into `y` for each part. Each row is in exactly one part.

    Raises
    ------
    InputError
        If a part has no row and must have one.
    """
    if groups is not None:
        return grouped_split(y, groups, validation_fraction, test_fraction, seed)
    parts: dict[Split, list[NDArray[np.int64]]] = {"train": [], "validation": []}
    if test_fraction is not None:
        parts["test"] = []
    for label in np.unique(y):
        members = _shuffled(np.flatnonzero(y == label), seed, int(label), _SPLIT)
        spare = max(0, len(members) - 2)
        tests = 0
        if test_fraction is not None:
            room = max(spare - 1, min(spare, 1))
            tests = min(room, max(1, _rounded(test_fraction * len(members))))
        wanted = max(1, _rounded(validation_fraction * (len(members) - tests)))
        validations = min(spare - tests, wanted)
        if test_fraction is not None:
            parts["test"].append(members[:tests])
        parts["validation"].append(members[tests : tests + validations])
        parts["train"].append(members[tests + validations :])
    split = {name: np.sort(np.concatenate(chosen)) for name, chosen in parts.items()}
    if not may_be_empty:
        refuse_empty_split(split)
    return split


def refuse_empty_split(split: dict[Split, NDArray[np.int64]]) -> None:
    """Raise an `InputError` if a part of a split has no row."""
    order: list[Split] = ["test", "validation", "train"] if "test" in split else ["validation", "train"]
    for name, rows in split.items():
        if len(rows) == 0:
            raise InputError(
                f"the split leaves no row for {name}: no class has more than {len(order[: order.index(name)]) + 2} "
                "samples, of which the first two are for training. Give a class more samples."
            )


def fold_numbers(
    y: NDArray[np.int64],
    classes: Sequence[str],
    folds: int,
    seed: int,
    key: str = "data.folds",
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Assign rows to folds that have the class proportions of all rows and sizes that differ by at most one.

    A class with fewer rows than folds is absent from some folds, as in scikit-learn's StratifiedKFold; a warning names
    it. Each row is in exactly one fold. With `groups`, the rows of a group are in the same fold, proportions are as
    even as the groups allow (`rcdp_hpc.data.group_assignment.assign_groups`), and the warning is about groups.

    Parameters
    ----------
    y : ndarray of int64, shape (rows,)
        Class indices.
    classes : sequence of str
        Names of the classes.
    folds, seed : int
    key : str
        The key of the number of folds, for messages.
    groups : ndarray of int64, shape (rows,), optional
        Number of each row's group (a patient, a site).

    Returns
    -------
    ndarray of int64, shape (rows,)
        Fold of each row, from 0.

    Raises
    ------
    InputError
        If there are fewer rows, or fewer groups, than folds.
    """
    what, units = ("samples", len(y)) if groups is None else ("groups", len(np.unique(groups)))
    if units < folds:
        raise InputError(f"{key} = {folds}: there are only {units} {what}; set {key} to at most {units}.")
    _warn_of_rare(y, classes, folds, key, groups)
    if groups is not None:
        return assign_groups(y, groups, [1 / folds] * folds, seed, folds=True)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, folds])))
    order = np.concatenate([generator.permutation(np.flatnonzero(y == label)) for label in range(len(classes))])
    numbers = np.empty(len(y), dtype=np.int64)
    numbers[order] = np.arange(len(y)) % folds
    return numbers


def _warn_of_rare(
    y: NDArray[np.int64], classes: Sequence[str], folds: int, key: str, groups: NDArray[np.int64] | None
) -> None:
    """Log a warning that names the classes with fewer samples, or that are in fewer groups, than there are folds."""
    number = len(classes)
    counts = np.bincount(y, minlength=number) if groups is None else groups_of_classes(y, groups, number)
    rare = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if 0 < count < folds]
    if rare:
        more = f" and {len(rare) - NAMED_CLASSES} more" if len(rare) > NAMED_CLASSES else ""
        fewer = "have fewer samples than folds" if groups is None else "are in fewer groups than there are folds"
        _warn_once(
            f"{key} = {folds}: these classes {fewer}: {', '.join(rare[:NAMED_CLASSES])}{more}; they are absent from "
            "some folds"
        )


@lru_cache(maxsize=16)
def _warn_once(message: str) -> None:
    """Log a warning once per process: each fold of a cross-validation assigns the same rows again."""
    log.warning("%s", message)


def fold_indices(
    y: NDArray[np.int64],
    classes: Sequence[str],
    folds: int,
    fold: int,
    validation_fraction: float,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> dict[Split, NDArray[np.int64]]:
    """Hold out one fold as the test, and split the other folds into training and validation.

    Validation rows decide when training stops and which epoch is best. They do not come from the held-out fold.

    Parameters
    ----------
    y : ndarray of int64, shape (N,)
        Class indices.
    classes : sequence of str
        Names of the classes.
    folds : int
        Number of folds, assigned by `fold_numbers`.
    fold : int
        The fold to hold out, from 1.
    validation_fraction : float
        Share of the other folds for the validation, as in `split_indices`.
    seed : int
        Seed of the folds and the split. Calls with the same seed have the same folds.
    groups : ndarray of int64, shape (N,), optional
        Number of each row's group, which is in one fold, and in one part.

    Returns
    -------
    dict
        As from `split_indices`.

    Raises
    ------
    InputError
        If `fold` is 0, there are fewer rows or groups than folds, the validation has no row, or groups leave a class
        out of the training part of a fold.
    """
    if not fold:
        raise InputError(
            f"data.folds = {folds} needs data.fold, the number of the fold that is held out: set it to 1 ... {folds}, "
            "or run `rcdp crossvalidate`, which holds out each fold in turn."
        )
    numbers = fold_numbers(y, classes, folds, seed, groups=groups)
    if groups is not None:
        _refuse_unspread(y, classes, numbers)
    others = np.flatnonzero(numbers != fold - 1)
    inner = split_indices(y[others], validation_fraction, None, seed, groups=None if groups is None else groups[others])
    return {**{split: others[rows] for split, rows in inner.items()}, "test": np.flatnonzero(numbers == fold - 1)}


def _refuse_unspread(y: NDArray[np.int64], classes: Sequence[str], numbers: NDArray[np.int64]) -> None:
    """Raise an `InputError` if all rows of a class are in one fold, whose training part then has none of them."""
    folds = np.bincount(np.unique(numbers * len(classes) + y) % len(classes), minlength=len(classes))
    lost = [name for name, number in zip(classes, folds, strict=True) if number == 1]
    if lost:
        more = f" and {len(lost) - NAMED_CLASSES} more" if len(lost) > NAMED_CLASSES else ""
        raise InputError(
            f"data.folds: groups stay together, and all samples of class {', '.join(lost[:NAMED_CLASSES])}{more} are "
            "in one fold: when it is held out, training has none. Give the class samples of more groups, or leave it "
            "out."
        )


def interleave(y: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Order rows so that every contiguous slice has the class proportions of all rows.

    Rows are permuted within their class; then classes are chosen by Tijdeman's algorithm. With class shares p_c, step t
    takes the most urgent class among those with t*p_c - count_c >= 1/(2C - 2), which is the class with the smallest
    (1 - 1/(2C - 2) - (t*p_c - count_c)) / p_c. For every class and every t,

        abs(count_c(t) - t*p_c) <= 1 - 1/(2C - 2),

    so that the count of a class in a slice differs from its proportional share by less than 2.

    Parameters
    ----------
    y : ndarray of int64, shape (N,)
        Class indices.
    seed : int
        Seed of the order within each class.

    Returns
    -------
    ndarray of int64, shape (N,)
        Index of the row at each place.

    References
    ----------
    R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980), 323-330.
    """
    labels, counts = np.unique(y, return_counts=True)
    steps = _class_order([int(count) for count in counts])
    order = np.empty(len(y), np.int64)
    for place, label in enumerate(labels):
        order[steps == place] = _shuffled(np.flatnonzero(y == label), seed, int(label), _ORDER)
    return order


def interleaved_labels(counts: Sequence[int]) -> NDArray[np.int64]:
    """Return the class of each row in the order of `interleave`, which depends only on the counts of the classes.

    Parameters
    ----------
    counts : sequence of int
        Number of rows of each class, in class order; 0 is allowed.

    Returns
    -------
    ndarray of int64, shape (sum of counts,)

    Examples
    --------
    >>> interleaved_labels([4, 0, 2]).tolist()
    [0, 2, 0, 0, 2, 0]
    """
    present = [label for label, count in enumerate(counts) if count]
    return np.array(present, np.int64)[_class_order([counts[label] for label in present])]


def _class_order(counts: list[int]) -> NDArray[np.int64]:
    """Return the class of each step by Tijdeman's algorithm, shape (sum of counts,)."""
    if len(counts) < 2:
        return np.zeros(sum(counts), np.int64)
    # After N/gcd steps every class has exactly its share, so the order repeats from there.
    repeats = math.gcd(*counts)
    counts = [count // repeats for count in counts]
    total, m = sum(counts), 2 * len(counts) - 2
    # The k-th row of class c (k from 0) is due between two steps: the two conditions solved for t. All arithmetic is on
    # integers, because a rounding error would break the bound. Steps are integers, so rounding a deadline down changes
    # nothing.
    released = [(_ceil_div(total, m * count), c, 0) for c, count in enumerate(counts)]
    heapq.heapify(released)
    ready: list[tuple[int, int, int]] = []
    turns = np.empty(total, np.int64)
    for step in range(1, total + 1):
        while released and released[0][0] <= step:
            _, c, k = heapq.heappop(released)
            heapq.heappush(ready, (((k + 1) * m - 1) * total // (m * counts[c]), c, k))
        _, c, k = heapq.heappop(ready)
        turns[step - 1] = c
        if k + 1 < counts[c]:
            heapq.heappush(released, (_ceil_div(((k + 1) * m + 1) * total, m * counts[c]), c, k + 1))
    return np.tile(turns, repeats)


def slab_bounds(rows: int, rank: int, size: int) -> tuple[int, int]:
    """Return the first row of a rank's slab and the row after its last; slab sizes differ by at most one."""
    return rank * rows // size, (rank + 1) * rows // size


def _shuffled(members: NDArray[np.int64], seed: int, label: int, purpose: int) -> NDArray[np.int64]:
    # Each class has a seed of its own, so that its order does not depend on other classes.
    generator = np.random.default_rng(np.random.SeedSequence([seed, label], spawn_key=(purpose,)))
    return generator.permutation(members)


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


def _ceil_div(a: int, b: int) -> int:
    # math.ceil(a / b) would round: products of row counts exceed the 53 bits of a float.
    return -(-a // b)
