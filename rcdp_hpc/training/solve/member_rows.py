"""The rows of each member of an ensemble of solved readouts (``readout.member_rows``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.training.solve.ridge_fit import Blocks, GatheredRows, RowSource

# The last entry of a seed, so that no other random numbers are these.
_STREAM = 22
# First row of each partition of this rank, by split.
Starts = tuple[Sequence[int], Sequence[int]]


def rows_by_class(counts: NDArray[np.int64], ratio: float) -> NDArray[np.int64]:
    """Return the training rows of each class in an under-sampled member.

    ``min(n_c, floor(n_min / ratio))`` for n_c rows of class c, the smallest class with n_min.

    Parameters
    ----------
    counts : numpy.ndarray of int, shape (classes,)
    ratio : float
        ``readout.member_ratio``: rows of the smallest class over those of the largest one.

    Raises
    ------
    InputError
        If a class has no row.
    """
    if not counts.all():
        raise agreed(
            InputError(
                "readout.member_rows = 'under_sampled' needs training rows of every class, and class number "
                f"{int(np.argmin(counts))} has none: set it to 'all', or add samples of this class."
            )
        )
    # A ratio such as 1 / 3 must not lose a row to rounding.
    return np.minimum(counts, int(counts.min() / ratio + 1e-9))


def under_sampled(labels: NDArray[np.int64], kept: NDArray[np.int64], seed: Sequence[int]) -> NDArray[np.bool_]:
    """Return which rows a member has: `kept` rows of each class, drawn without replacement.

    Parameters
    ----------
    labels : numpy.ndarray of int, shape (rows,)
        Classes of all rows of a split, over all ranks: the draw is the same for any number of ranks.
    kept : numpy.ndarray of int, shape (classes,)
    seed : sequence of int
        Determines the draw, with the class.
    """
    chosen = np.zeros(len(labels), bool)
    for label, count in enumerate(kept.tolist()):
        rows = np.flatnonzero(labels == label)
        chosen[np.random.default_rng([*seed, label, _STREAM]).choice(rows, count, replace=False)] = True
    return chosen


@dataclass(frozen=True, eq=False)
class MemberRows:
    """The rows of the members of an ensemble, drawn from those of a source.

    Of each class a member has the same share of the validation rows as of the training rows, so that the errors that
    choose its penalty are those of classes in the same proportions.

    Attributes
    ----------
    source : RowSource
        All rows, none of them synthetic.
    labels : (numpy.ndarray, numpy.ndarray), each of shape (rows,), int64
        Classes of all training rows and all validation rows, over all ranks.
    starts : (sequence of int, sequence of int)
        First row of each partition that ``source.partitions`` and ``source.validation`` return on this rank.
    ratio : float
        As `rows_by_class`.
    seed : int
    """

    source: RowSource
    labels: tuple[NDArray[np.int64], NDArray[np.int64]]
    starts: Starts
    ratio: float
    seed: int

    @cached_property
    def kept(self) -> NDArray[np.int64]:
        """Training rows of each class in a member, shape (classes,)."""
        return rows_by_class(self._counts(0), self.ratio)

    @cached_property
    def kept_validation(self) -> NDArray[np.int64]:
        """Validation rows of each class in a member, shape (classes,)."""
        train, validation = self._counts(0), self._counts(1)
        shares = self.kept / np.maximum(train, 1)
        return np.minimum(validation, np.ceil(shares * validation - 1e-9).astype(np.int64))

    def _counts(self, split: int) -> NDArray[np.int64]:
        return np.bincount(self.labels[split], minlength=self.source.classes)

    def chosen(self, member: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which training rows and which validation rows a member has."""
        kept = (self.kept, self.kept_validation)
        train, validation = (
            under_sampled(labels, counts, (self.seed, member, split))
            for split, (labels, counts) in enumerate(zip(self.labels, kept, strict=True))
        )
        return train, validation

    def of(self, member: int, gathered: Callable[[], GatheredRows | None] | None = None) -> RowSource:
        """Return the rows of a member, none of whose scores are asked for.

        Parameters
        ----------
        member : int
            From 0.
        gathered : callable, optional
            Returns all rows of the source; default: ``source.gather``.
        """
        source, chosen = self.source, self.chosen(member)
        gather = gathered or source.gather

        def gather_member() -> GatheredRows | None:
            rows = gather()
            return None if rows is None else _of_gathered(rows, np.concatenate(chosen))

        return replace(
            source,
            rows=int(self.kept.sum()),
            validation_rows=int(self.kept_validation.sum()),
            class_counts=self.kept,
            partitions=lambda: _filtered(source.partitions(), self.starts[0], chosen[0]),
            validation=lambda: _filtered(source.validation(), self.starts[1], chosen[1]),
            gather=gather_member,
            natural=None,
        )


def _of_gathered(rows: GatheredRows, chosen: NDArray[np.bool_]) -> GatheredRows:
    numbers = torch.from_numpy(np.flatnonzero(chosen)).to(rows.states.device)
    return replace(rows, states=rows.states[numbers], labels=rows.labels[chosen], origins=rows.origins[chosen])


def _filtered(partitions: Iterable[Blocks], starts: Sequence[int], chosen: NDArray[np.bool_]) -> Iterator[Blocks]:
    for start, partition in zip(starts, partitions, strict=True):
        yield _filtered_blocks(partition, start, chosen)


def _filtered_blocks(
    blocks: Blocks, start: int, chosen: NDArray[np.bool_]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for states, labels in blocks:
        # The numbers of the rows are copied, so that nothing waits for a count on the device.
        numbers = torch.from_numpy(np.flatnonzero(chosen[start : start + len(states)]))
        start += len(states)
        yield states[numbers.to(states.device)], labels[numbers.to(labels.device)]
