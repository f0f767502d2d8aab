"""The one pass over states: all original rows, and the synthetic rows of all folds, each once.

Sums of original rows are kept per fold and class, so that class weights are a solution and not a pass. Copies of a row
are its weight. A synthetic row counts in the training parts that hold out neither of its two rows, with the weight of
`rcdp_hpc.reservoir.fold_sums.synthetic_weights`. Ranks take slabs of rows that do not depend on their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.balance_check.resampling import Resampling
from rcdp_hpc.balance_check.rows import CheckRows
from rcdp_hpc.config import Config
from rcdp_hpc.data.rows import RowTable, make_samples, original_rows
from rcdp_hpc.reservoir.device_sums import DeviceSums, sums_device
from rcdp_hpc.reservoir.fold_sums import FoldSums, add_sums, fold_sums_bytes, synthetic_weights
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.reservoir.stream import largest_sum
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.training.solve.ridge_fit import feature_bound

# Rows of a slab: the rows of a fold and class in it are one product, for which more rows are faster.
SLAB_ROWS = 4096
FEWEST_SLABS, MOST_SLABS = 8, 256

ClassWeighting = Callable[[NDArray[np.int64]], "NDArray[np.float64] | None"]


@dataclass(eq=False)
class CheckSums:
    """The sums of all training parts.

    Attributes
    ----------
    originals : FoldSums
        Of the original rows, and of the synthetic rows of SMOTE.
    weighted : dict of str to FoldSums
        By method: sums of weighted rows, if there is no memory for sums by class.
    copies : dict of str to FoldSums
        By value of ``data.balance``: of the copies, or, if rows are left out, of the rows that are not.
    """

    originals: FoldSums
    weighted: dict[str, FoldSums] = field(default_factory=dict)
    copies: dict[str, FoldSums] = field(default_factory=dict)

    def all(self) -> list[FoldSums]:
        """Return all sums, in an order that is the same on all ranks."""
        return [self.originals, *self.weighted.values(), *self.copies.values()]


@dataclass(frozen=True, eq=False)
class PassResult:
    """What the pass leaves on a rank.

    Attributes
    ----------
    sums : CheckSums
        Over the rows of all ranks.
    states : torch.Tensor, shape (local rows, features)
        Of this rank's original rows.
    first : int
        Number of the first of these rows.
    """

    sums: CheckSums
    states: torch.Tensor
    first: int


def slabs(rows: int) -> list[tuple[int, int]]:
    """Return the first row of each slab and the one after its last; they do not depend on the number of ranks."""
    size = max(1, min(SLAB_ROWS, math.ceil(rows / FEWEST_SLABS)), math.ceil(rows / MOST_SLABS))
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]


def local_slabs(rows: int, comm: Communicator) -> list[tuple[int, int]]:
    """Return the slabs of this rank, which are consecutive."""
    bounds = slabs(rows)
    first, last = (end * len(bounds) // comm.size for end in (comm.rank, comm.rank + 1))
    return bounds[first:last]


def pass_over_states(
    config: Config,
    rows: CheckRows,
    source: StateSource,
    by_class: bool,
    weightings: dict[str, ClassWeighting],
    comm: Communicator,
) -> PassResult:
    """Compute the states of all rows once, and their sums. Collective.

    Parameters
    ----------
    config : Config
    rows : CheckRows
    source : StateSource
    by_class : bool
        Whether sums of original rows are kept by class (see `sums_bytes`).
    weightings : dict of str to callable
        By method: class weights of class counts. Without sums by class they are those of all rows.
    comm : Communicator
    """
    bounds = local_slabs(len(rows.labels), comm)
    first, last = (bounds[0][0], bounds[-1][1]) if bounds else (0, 0)
    total = len(rows.labels) + sum(len(one.synthetic) for one in rows.resampled.values())
    sums = agree(comm, lambda: _empty_sums(config, rows, source, by_class, weightings))
    states = agree(comm, lambda: torch.empty(last - first, source.width, dtype=source.dtype, device=source.device))
    with Progress("states", total // comm.size, enabled=config.run.progress and comm.is_root) as bar:
        compute = Computing(rows, source, bar.advance)
        agree(comm, lambda: compute.fill(states, bounds, first))
        origin = _origin(config, states[: bounds[0][1] - bounds[0][0]] if bounds else states, comm)
        if origin is not None:
            states -= origin.to(states.device)
        weights = {name: weighting(rows.counts().sum(axis=0)) for name, weighting in weightings.items()}
        agree(comm, lambda: _add_originals(sums, rows, states, bounds, first, weights))
        agree(comm, lambda: _add_synthetic(sums, rows, compute, origin, comm))
        source.release()
    for one in sums.all():
        one.reduce(comm)
    return PassResult(sums, states, first)


@dataclass(frozen=True, eq=False)
class Computing:
    """Computes states of rows.

    Attributes
    ----------
    rows : CheckRows
    source : StateSource
    advance : callable
        Called with the number of rows that are done.
    """

    rows: CheckRows
    source: StateSource
    advance: Callable[[int], object]

    def fill(self, states: torch.Tensor, bounds: list[tuple[int, int]], first: int) -> None:
        """Fill a tensor with the states of original rows, slab by slab; `first` is the number of its first row."""
        for start, stop in bounds:
            numbers = np.arange(start, stop)
            table = original_rows(self.rows.labels[start:stop], numbers)
            self.of(table, states[start - first : stop - first])

    def of(self, table: RowTable, out: torch.Tensor) -> torch.Tensor:
        """Return the states of some rows, written to `out`."""
        for start in range(0, len(table), self.source.batch_rows):
            part = table.part(slice(start, start + self.source.batch_rows))
            x = make_samples(self.rows.source, part, self.rows.storage)
            lengths = self.rows.source.lengths(part.source)
            # Not into `out`: the last digits of products depend on where their result is aligned.
            out[start : start + len(part)] = self.source.drive(torch.from_numpy(x), lengths)
            self.advance(len(part))
        return out


def gathered_states(config: Config, rows: CheckRows, source: StateSource, comm: Communicator) -> torch.Tensor | None:
    """Return the states of all original rows and then of all synthetic ones on rank 0, None elsewhere. Collective."""
    tables = [original_rows(rows.labels, np.arange(len(rows.labels)))]
    tables += [one.synthetic for one in rows.resampled.values() if len(one.synthetic)]
    parts = []
    total = sum(map(len, tables))
    with Progress("states", total // comm.size, enabled=config.run.progress and comm.is_root) as bar:
        compute = Computing(rows, source, bar.advance)
        for table in tables:
            local = agree(comm, partial(_local_states, compute, table, comm))
            parts.append(comm.gather_rows(local.double().cpu().numpy()))
    source.release()
    if not comm.is_root:
        return None
    # Sums in float64 of states of 32 bits or fewer: nothing is rounded.
    return torch.from_numpy(np.concatenate([part for part in parts if part is not None]).astype(np.float32))


def _local_states(compute: Computing, table: RowTable, comm: Communicator) -> torch.Tensor:
    slabs_of_rank = [table.part(slice(*bounds)) for bounds in local_slabs(len(table), comm)]
    source = compute.source
    states = torch.empty(sum(map(len, slabs_of_rank)), source.width, dtype=source.dtype, device=source.device)
    first = 0
    for part in slabs_of_rank:
        compute.of(part, states[first : first + len(part)])
        first += len(part)
    return states


def _empty_sums(
    config: Config, rows: CheckRows, source: StateSource, by_class: bool, weightings: dict[str, ClassWeighting]
) -> CheckSums:
    most = max((int(one.multiplicity.max()) for one in rows.resampled.values()), default=1)
    total = len(rows.labels) + sum(len(one.synthetic) for one in rows.resampled.values())
    bound = largest_sum(feature_bound(config), 2 * total * most)
    # abs(feature - origin) is at most twice the bound of a feature.
    largest = None if bound is None else 4 * bound * len(rows.classes)

    def empty(by_class: bool = False) -> FoldSums:
        return FoldSums(
            source.width, len(rows.classes), rows.fold_count, by_class=by_class, largest=largest,
            precision=config.readout.ridge_precision, device=sums_device(source.device),
        )  # fmt: skip

    weighted = {} if by_class else {name: empty() for name in weightings}
    return CheckSums(empty(by_class), weighted, {name: empty() for name in rows.resampled})


def _origin(config: Config, slab: torch.Tensor, comm: Communicator) -> torch.Tensor | None:
    """Return the mean state of the first slab of all, which products in float32 need; else None. Collective.

    A readout with an intercept has the same scores for shifted states.
    """
    if config.readout.ridge_precision != "single":
        return None
    has_rows = slab.dtype == torch.float32 and len(slab) > 0
    means = comm.allgather(slab.mean(0).cpu().numpy() if has_rows else None)
    first = next((mean for mean in means if mean is not None), None)
    return None if first is None else torch.from_numpy(first)


def _add_originals(
    sums: CheckSums,
    rows: CheckRows,
    states: torch.Tensor,
    bounds: list[tuple[int, int]],
    first: int,
    weights: dict[str, NDArray[np.float64] | None],
) -> None:
    for start, stop in bounds:
        slab, labels, folds = states[start - first : stop - first], rows.labels[start:stop], rows.folds[start:stop]
        sums.originals.add(slab, labels, folds)
        for name, one in sums.weighted.items():
            chosen = weights[name]
            one.add(slab, labels, folds, None if chosen is None else chosen[labels])
        for name, one in sums.copies.items():
            extra = _extra(rows.resampled[name])[start:stop]
            one.add(slab, labels, folds, extra.astype(np.float64))
        for one in sums.all():
            one.flush()


def _extra(resampling: Resampling) -> NDArray[np.int64]:
    """Return how often each row is added to the rows as they are; if rows are left out, how often it occurs."""
    return resampling.multiplicity - (0 if leaves_out(resampling) else 1)


def leaves_out(resampling: Resampling) -> bool:
    """Return whether rows are left out."""
    return bool((resampling.multiplicity == 0).any())


def _add_synthetic(
    sums: CheckSums, rows: CheckRows, compute: Computing, origin: torch.Tensor | None, comm: Communicator
) -> None:
    """Add the synthetic rows to the sums of the rows as they are, in slabs of rows of which none is kept."""
    for part in _synthetic_slabs(rows, comm):
        states = torch.empty(len(part), compute.source.width, dtype=compute.source.dtype, device=compute.source.device)
        compute.of(part, states)
        if origin is not None:
            states -= origin.to(states.device)
        first, second = rows.folds[part.source], rows.folds[part.neighbour]
        weights = synthetic_weights(first, second, rows.fold_count)
        sums.originals.add_synthetic(states, part.y.astype(np.int64), first, second, weights)
        sums.originals.flush()


def _synthetic_slabs(rows: CheckRows, comm: Communicator) -> Iterator[RowTable]:
    for one in rows.resampled.values():
        for start, stop in local_slabs(len(one.synthetic), comm) if len(one.synthetic) else ():
            yield one.synthetic.part(slice(start, stop))


def training_sums(
    result: PassResult, rows: CheckRows, name: str, balance: str, weighting: ClassWeighting, fold: int
) -> GramSums | DeviceSums:
    """Return the sums of the training part of a fold under a method.

    Parameters
    ----------
    result : PassResult
    rows : CheckRows
    name, balance : str
        Name of the method, and the value of ``data.balance`` whose rows it has.
    weighting : callable
        Class weights of class counts.
    fold : int
    """
    sums = result.sums
    if balance == "none":
        if name in sums.weighted:
            return sums.weighted[name].training(fold)
        counts = np.delete(rows.counts(), fold, axis=0).sum(axis=0)
        return sums.originals.training(fold, weighting(counts), synthetic=False)
    resampling = rows.resampled[balance]
    if leaves_out(resampling):
        return sums.copies[balance].training(fold)
    total = sums.originals.training(fold, synthetic=len(resampling.synthetic) > 0)
    add_sums(total, sums.copies[balance].training(fold))
    return total


def sums_bytes(rows: CheckRows, width: int, by_class: bool, weightings: int) -> int:
    """Return the bytes of all sums of a rank.

    Parameters
    ----------
    rows : CheckRows
    width : int
        Features of a row.
    by_class : bool
    weightings : int
        Methods with class weights.
    """
    classes, folds = len(rows.classes), rows.fold_count
    pairs = any(len(one.synthetic) for one in rows.resampled.values())
    others = len(rows.resampled) + (0 if by_class else weightings)
    return fold_sums_bytes(width, classes, folds, by_class, pairs) + others * fold_sums_bytes(
        width, classes, folds, pairs=False
    )
