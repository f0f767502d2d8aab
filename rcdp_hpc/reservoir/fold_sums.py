"""Sums of ridge regression kept per fold: the training parts of a cross-validation from one pass over the rows.

A training part consists of the rows that its fold does not hold out, so its sums are those of the other folds added up.
Nothing is subtracted: a difference of sums has larger rounding errors than the sum itself, and adding costs as little.

A synthetic row derives from two original rows. It counts where neither of them is held out, so its sums are kept for
the pair of their folds. It therefore counts in fewer training parts than an original row, for which
`synthetic_weights` makes up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.reservoir.device_sums import DeviceSums, is_class, make_sums
from rcdp_hpc.reservoir.gram import SUMS, GramSums, padded, reduce_sums, upper_blocks
from rcdp_hpc.runtime.comm.base import Communicator

# In place of the fold of a row that no fold holds out.
NO_FOLD = -1
# In place of a class, if sums are not kept per class.
ALL_CLASSES = -1


class Part(NamedTuple):
    """The rows that one of the sums is over.

    Attributes
    ----------
    synthetic : bool
    first, second : int
        Folds of the original rows that a row derives from, in ascending order; both are the fold of an original row.
    label : int
        Class number, or `ALL_CLASSES`.
    """

    synthetic: bool
    first: int
    second: int
    label: int


class FoldSums:
    """The sums of ridge regression, per fold, and per class if class weights are chosen afterwards.

    Parameters
    ----------
    features, classes : int
        Length of a feature vector, and number of classes.
    folds : int
        Two or more.
    by_class : bool
        Whether the sums of original rows are also kept per class. Every choice of class weights is then a solution, not
        another pass. Without, weights are applied to rows as they are added.
    precision : {"double", "single"}
        As of `rcdp_hpc.reservoir.gram.GramSums`. With "single", subtract an origin near the mean from the features.
    largest : float, optional
        As of `GramSums`: with it, sums of slabs that end with `flush` are the same bits for any number of ranks.
    device : torch.device, optional
        See `rcdp_hpc.reservoir.device_sums.sums_device`; None for the CPU.

    Attributes
    ----------
    counts : numpy.ndarray, shape (folds, classes), int64
        Original rows of each fold and class that were added.

    Examples
    --------
    >>> import numpy as np
    >>> from rcdp_hpc.reservoir.ridge import solve
    >>> states, labels = np.random.default_rng(0).normal(size=(90, 4)), np.arange(90) % 3
    >>> sums = FoldSums(4, 3, folds=3)
    >>> sums.add(states, labels, np.arange(90) // 30)
    >>> solve(sums.training(0), 1e-3).weights.shape  # fitted to the rows 30 to 89
    (4, 3)
    """

    def __init__(
        self,
        features: int,
        classes: int,
        folds: int,
        *,
        by_class: bool = False,
        precision: Literal["double", "single"] = "double",
        largest: float | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.features = features
        self.classes = classes
        self.folds = folds
        self.by_class = by_class
        self.precision = precision
        self.largest = largest
        self.device = device
        self.counts = np.zeros((folds, classes), dtype=np.int64)
        self._parts: dict[Part, GramSums | DeviceSums] = {}

    def add(
        self, states: Any, labels: NDArray[np.integer], folds: NDArray[np.integer], weights: Any | None = None
    ) -> None:
        """Add a block of original rows.

        Large blocks are faster: the rows of each fold and class are one product.

        Parameters
        ----------
        states : torch.Tensor or numpy.ndarray, shape (rows, features)
        labels : numpy.ndarray, shape (rows,)
            Class numbers.
        folds : numpy.ndarray, shape (rows,)
            The fold that holds out each row, from 0; `NO_FOLD` for a row that counts in all training parts.
        weights : array_like, shape (rows,), optional
            Weight of each row, for example how often a bootstrap draws it. A row of weight 0 is left out.

        Raises
        ------
        ValueError
            If shapes do not fit, or a fold or a class does not exist.
        """
        self._add(False, states, labels, folds, folds, weights)

    def add_synthetic(
        self,
        states: Any,
        labels: NDArray[np.integer],
        first: NDArray[np.integer],
        second: NDArray[np.integer],
        weights: Any | None = None,
    ) -> None:
        """Add a block of synthetic rows, which count where no fold holds out an original row they derive from.

        Parameters
        ----------
        states, labels
            As of `add`.
        first, second : numpy.ndarray, shape (rows,)
            Folds of the two original rows, in any order.
        weights : array_like, shape (rows,), optional
            As of `add`; see `synthetic_weights`.
        """
        self._add(True, states, labels, first, second, weights)

    def _add(self, synthetic: bool, states: Any, labels: Any, first: Any, second: Any, weights: Any | None) -> None:
        rows = torch.as_tensor(states)
        numbers, ends = np.asarray(labels, dtype=np.int64), np.stack([np.asarray(first), np.asarray(second)])
        counted = None if weights is None else np.asarray(weights, dtype=np.float64)
        self._check(rows, numbers, ends, counted)
        per_class = self.by_class and not synthetic
        for (low, high, label), places in _groups(ends, numbers if per_class else None, counted):
            part = Part(synthetic, low, high, label)
            self._add_rows(
                self._sums_of(part), rows, numbers[places], places, None if counted is None else counted[places]
            )
            if not synthetic and low != NO_FOLD:
                self.counts[low] += np.bincount(numbers[places], minlength=self.classes)

    def _check(
        self,
        rows: torch.Tensor,
        labels: NDArray[np.int64],
        ends: NDArray[np.integer],
        weights: NDArray[np.float64] | None,
    ) -> None:
        shapes = {labels.shape, ends.shape[1:], (len(rows),), *(() if weights is None else (weights.shape,))}
        if len(shapes) > 1 or rows.ndim != 2 or rows.shape[1] != self.features:
            raise ValueError(f"states {tuple(rows.shape)}, labels {labels.shape} and folds {ends.shape[1:]} do not fit")
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.classes):
            raise ValueError(f"a class number is not one of 0 to {self.classes - 1}")
        if len(labels) and not (ends.min() >= NO_FOLD and ends.max() < self.folds):
            raise ValueError(f"a fold is not one of 0 to {self.folds - 1}")
        if weights is not None and not (weights >= 0).all():
            raise ValueError("a row has a weight below 0")

    def _sums_of(self, part: Part) -> GramSums | DeviceSums:
        if part not in self._parts:
            self._parts[part] = self._empty()
        return self._parts[part]

    def _empty(self) -> GramSums | DeviceSums:
        return make_sums(self.features, self.classes, self.precision, self.largest, device=self.device)

    def _add_rows(
        self,
        sums: GramSums | DeviceSums,
        states: torch.Tensor,
        labels: NDArray[np.int64],
        places: NDArray[np.int64],
        weights: NDArray[np.float64] | None,
    ) -> None:
        chosen = states if len(places) == len(states) else states[torch.from_numpy(places).to(states.device)]
        numbers = torch.from_numpy(labels)
        if weights is None:
            sums.add_labelled(chosen, numbers)
        else:
            sums.add(chosen, is_class(numbers, self.classes).to(torch.float32), weights)

    def flush(self) -> None:
        """Add pending rows to the sums. Call it at the end of each slab, as `rcdp_hpc.reservoir.stream.sum_slabs`."""
        for part in sorted(self._parts):
            self._parts[part].flush()

    def reduce(self, comm: Communicator) -> None:
        """Add the sums of all ranks, with the same result on every rank. Collective; see `reduce_sums`."""
        self.flush()
        if comm.size == 1:
            return
        for part in sorted(set().union(*comm.allgather(set(self._parts)))):
            reduce_sums(self._sums_of(part), comm)
        self.counts = np.asarray(comm.allreduce(self.counts.astype(np.float64))).astype(np.int64)

    def training(
        self, fold: int, class_weights: NDArray[np.float64] | None = None, synthetic: bool = True
    ) -> GramSums | DeviceSums:
        """Return the sums of the training part of a fold, for `rcdp_hpc.reservoir.ridge.solve`.

        Parameters
        ----------
        fold : int
            The fold that is held out, from 0.
        class_weights : numpy.ndarray, shape (classes,), optional
            Weight of a row of each class; needs sums by class, and applies to original rows only.
        synthetic : bool
            Whether synthetic rows count.

        Returns
        -------
        GramSums or DeviceSums
            New sums, that may be changed.

        Raises
        ------
        ValueError
            If the fold does not exist, or class weights are given without sums by class.
        """
        if not 0 <= fold < self.folds:
            raise ValueError(f"fold {fold} is not one of 0 to {self.folds - 1}")
        return self._added(
            [part for part in self._parts if fold not in (part.first, part.second)], class_weights, synthetic
        )

    def total(self, class_weights: NDArray[np.float64] | None = None, synthetic: bool = True) -> GramSums | DeviceSums:
        """Return the sums of all rows; parameters as of `training`."""
        return self._added(list(self._parts), class_weights, synthetic)

    def held_out(self, fold: int) -> GramSums | DeviceSums:
        """Return the sums of the original rows that a fold holds out."""
        return self._added([part for part in self._parts if part.first == fold], None, synthetic=False)

    def _added(
        self, parts: list[Part], class_weights: NDArray[np.float64] | None, synthetic: bool
    ) -> GramSums | DeviceSums:
        if class_weights is not None and not self.by_class:
            raise ValueError("class weights need sums by class")
        total = self._empty()
        chosen = [part for part in sorted(parts) if synthetic or not part.synthetic]
        weights = [
            1.0 if class_weights is None or part.synthetic else float(class_weights[part.label]) for part in chosen
        ]
        add_all_sums(total, [self._parts[part] for part in chosen], weights)
        return total

    @property
    def nbytes(self) -> int:
        """Bytes of the sums so far, without pending rows."""
        return len(self._parts) * sums_bytes_of(self.features, self.classes)


def synthetic_weights(first: NDArray[np.integer], second: NDArray[np.integer], folds: int) -> NDArray[np.float64]:
    """Return weights with which synthetic rows count as much as original rows over all training parts.

    An original row counts in all training parts but one. A synthetic row counts in those that hold out neither of its
    two original rows. Its weight makes up for the parts in which it is missing, so that the classes of a training part
    keep the proportions that the balancing gave them.

    Parameters
    ----------
    first, second : numpy.ndarray, shape (rows,)
        Folds of the two original rows, from 0; `NO_FOLD` for one that no fold holds out.
    folds : int

    Returns
    -------
    numpy.ndarray, shape (rows,), float64
        0 for a row that counts nowhere: with two folds, one between rows of both.

    Examples
    --------
    >>> synthetic_weights(np.array([0, 0]), np.array([0, 1]), 5)
    array([1.        , 1.33333333])
    """
    held_out = (first != NO_FOLD).astype(np.int64) + ((second != NO_FOLD) & (second != first))
    counted = folds - held_out
    return np.where(counted > 0, (folds - 1) / np.maximum(counted, 1), 0.0)


def fold_sums_bytes(features: int, classes: int, folds: int, by_class: bool = False, pairs: bool = True) -> int:
    """Return the most bytes of `FoldSums`, with the sums of one training part.

    Parameters
    ----------
    features, classes, folds : int
    by_class : bool
        As of `FoldSums`.
    pairs : bool
        Whether there are synthetic rows.
    """
    parts = folds * (classes if by_class else 1) + (folds * (folds + 1) // 2 if pairs else 0)
    return (parts + 1) * sums_bytes_of(features, classes)


def sums_bytes_of(features: int, classes: int) -> int:
    """Return the bytes of one of the sums."""
    return 8 * padded(features + classes + 1) ** 2


def add_sums(total: GramSums | DeviceSums, other: GramSums | DeviceSums, weight: float = 1.0) -> None:
    """Add the sums of other rows, each row times a weight; parameters as of `add_all_sums`."""
    add_all_sums(total, [other], [weight])


def add_all_sums(
    total: GramSums | DeviceSums, others: Sequence[GramSums | DeviceSums], weights: Sequence[float]
) -> None:
    """Add the sums of other rows, in order, each row times the weight of its sums.

    Parameters
    ----------
    total : GramSums or DeviceSums
    others : sequence of GramSums or DeviceSums
        Of the kind and shape of `total`; they stay unchanged.
    weights : sequence of float
    """
    for sums in (total, *others):
        sums.flush()
    total.rows += sum(sums.rows for sums in others)
    for into, *added in zip(_tensors(total), *map(_tensors, others), strict=True):
        for block in _blocks(into):
            for tensor, weight in zip(added, weights, strict=True):
                into[block].add_(tensor[block], alpha=weight)


def _blocks(tensor: torch.Tensor) -> Iterator[Any]:
    """Yield indices of blocks of a tensor: of X'X down to the diagonal, so that a block stays in a core's cache."""
    if tensor.ndim < 2 or tensor.shape[0] != tensor.shape[1] or tensor.device.type != "cpu":
        yield ...
        return
    for rows, columns in upper_blocks(len(tensor)):
        yield columns, rows


def _tensors(sums: GramSums | DeviceSums) -> list[torch.Tensor]:
    """Return all sums, without copies."""
    if isinstance(sums, DeviceSums):
        return [sums.lower, sums.crossed, sums.squares]
    # Tensors, because NumPy would use one core; transposed, since X'X is in column order.
    return [torch.from_numpy(getattr(sums, name).T) for name in ("xx", *SUMS)]


def _groups(
    ends: NDArray[np.integer], labels: NDArray[np.int64] | None, weights: NDArray[np.float64] | None
) -> Iterator[tuple[tuple[int, int, int], NDArray[np.int64]]]:
    """Yield each pair of folds, in ascending order, and class that occurs, with its rows in order.

    Rows of weight 0 are left out.
    """
    low, high = ends.min(axis=0), ends.max(axis=0)
    last = np.full_like(low, ALL_CLASSES) if labels is None else labels
    keys = np.stack([low, high, last]).astype(np.int64)
    # One number for each key, in the same order: the entries are -1 or above, and small.
    codes = ((keys[0] + 1) << 42) + ((keys[1] + 1) << 21) + keys[2] + 1
    places = np.arange(len(codes)) if weights is None else np.flatnonzero(weights)
    order = places[np.argsort(codes[places], kind="stable")]
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(order) else ():
        first, second, label = keys[:, rows[0]].tolist()
        yield (first, second, label), rows
