"""The rows that the layers of an extreme learning machine are solved from, and exact sums over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config, ReadoutSection
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.networks.readouts.elm import ELMReadout
from rcdp_hpc.reservoir.device_sums import DeviceSums, make_sums, sums_bytes
from rcdp_hpc.reservoir.gram import GramSums, reduce_sums
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed, run_on_root
from rcdp_hpc.runtime.ram import MIB
from rcdp_hpc.training.solve.ridge_fit import Blocks, GatheredRows, RowSource, weights_of
from rcdp_hpc.training.solve.solving_device import device_with_room
from rcdp_hpc.training.states.memory import memory_share

NOT_FINITE = "the extreme learning machine cannot be solved: its features are not finite"
# Values below this one are lost in float32 products.
LEAST_VALUE = 1e-30
# Bound of the scaled deep features, which are at most 1 in the first partition.
DEEP_BOUND = 2.0
# Of a rank's share of the memory, the part that its states may use if states.memory_mib is 0.
MEMORY_PART = 2


def room_for_states(config: Config, comm: Communicator, where: torch.device) -> int:
    """Return the bytes that the states of this rank may use: ``states.memory_mib``, or half of its memory. Collective.

    Parameters
    ----------
    config : Config
    comm : Communicator
    where : torch.device
        The device that stores the states.
    """
    return config.states.memory_mib * MIB or memory_share(comm, where) // MEMORY_PART


def stored(source: RowSource) -> RowSource:
    """Return the rows with blocks that are stored in memory when they are used first."""
    return replace(source, partitions=_Stored(source.partitions), validation=_Stored(source.validation))


class _Stored:
    """The blocks that a callable returns, by partition; a partition is computed when it is used first."""

    def __init__(self, compute: Callable[[], Iterable[Blocks]]) -> None:
        self._compute = compute
        self._rest: Iterator[Blocks] | None = None
        self._partitions: list[list[tuple[torch.Tensor, torch.Tensor]]] = []

    def __call__(self) -> Iterator[Blocks]:
        if self._rest is None:
            self._rest = iter(self._compute())
        yield from self._partitions
        for partition in self._rest:
            # A block may be in a buffer that the next block overwrites.
            self._partitions.append([(states.clone(), labels.clone()) for states, labels in partition])
            yield self._partitions[-1]


def watched(source: RowSource, before_block: Callable[[], object]) -> RowSource:
    """Return the rows with a call before each block, stored or not."""

    def partitions(blocks: Callable[[], Iterable[Blocks]]) -> Iterator[Blocks]:
        for partition in blocks():
            yield _after(before_block, partition)

    return replace(
        source,
        partitions=lambda: partitions(source.partitions),
        validation=lambda: partitions(source.validation),
    )


def _after(call: Callable[[], object], blocks: Blocks) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for block in blocks:
        call()
        yield block


def largest_of_first(
    comm: Communicator, source: RowSource, values: Callable[[torch.Tensor], list[torch.Tensor]]
) -> list[float]:
    """Return the largest absolute values of several functions of the states, over the first partition. Collective.

    Rank 0 has this partition, for any number of ranks.

    Parameters
    ----------
    comm : Communicator
    source : RowSource
    values : callable
        Returns tensors for a block of states (rows, features).

    Raises
    ------
    CandidateError
        If a value is not finite.
    """

    def of_root() -> list[float]:
        blocks = next(iter(source.partitions()), ())
        found = [[float(one.abs().max()) for one in values(states)] for states, _ in blocks if len(states)]
        return np.max(found, axis=0).tolist() if found else []

    largest = run_on_root(comm, of_root)
    if not np.isfinite(largest).all():
        raise agreed(CandidateError(NOT_FINITE))
    return largest


def scale_of(largest: float) -> float:
    """Return a power of two that brings values up to `largest` near to 1; multiplying by it is exact."""
    return 2.0 ** -math.ceil(math.log2(largest)) if largest >= LEAST_VALUE else 1.0


@dataclass(frozen=True)
class Terms:
    """What is summed for each machine.

    Attributes
    ----------
    sizes : list of (int, int)
        Length of h and of x.
    of : callable
        Returns h (rows, length) and x (rows, length) of each machine for a block of states (rows, features).
    largest : float
        Largest absolute value that is expected.
    """

    sizes: list[tuple[int, int]]
    of: Callable[[torch.Tensor], list[tuple[torch.Tensor, torch.Tensor]]]
    largest: float


def exact_sums(
    comm: Communicator, source: RowSource, terms: Terms, weights: NDArray[np.float64] | None
) -> list[GramSums | DeviceSums]:
    """Return the sums h'h and h'x over all rows of all ranks, the same bits for any number of ranks. Collective.

    The additions are exact if no sum exceeds a bound (`GramSums`). It follows from the largest value that is expected.
    The sums of squares, which no other sum exceeds (Cauchy and Schwarz), show whether it was large enough; if not, the
    rows are summed again with a larger one.

    Parameters
    ----------
    comm : Communicator
    source : RowSource
    terms : Terms
    weights : numpy.ndarray, shape (classes,), optional
        Weight of a row of each class.

    Raises
    ------
    CandidateError
        If a sum is not finite.
    """
    heaviest = 1.0 if weights is None else max(1.0, float(weights.max()))
    bound = source.rows * heaviest * max(1.0, terms.largest) ** 2
    needed = sum(sums_bytes(hidden, inputs, joined=False) for hidden, inputs in terms.sizes)
    device = device_with_room(comm, source.device, needed, "a layer of the extreme learning machine", source.level)
    source = replace(source, device=device)
    while True:
        sums = agree(comm, partial(_sums_of_rank, source, terms, weights, bound))
        for one in sums:
            reduce_sums(one, comm)
        reached = max(_largest_square(one) for one in sums)
        if not math.isfinite(reached):
            raise agreed(CandidateError(NOT_FINITE))
        if reached <= bound:
            return sums
        sums.clear()
        bound = 2 * reached


def _sums_of_rank(
    source: RowSource, terms: Terms, weights: NDArray[np.float64] | None, bound: float
) -> list[GramSums | DeviceSums]:
    sums = [make_sums(hidden, inputs, "double", bound, False, source.device) for hidden, inputs in terms.sizes]
    for partition in source.partitions():
        for states, labels in partition:
            row_weights = weights_of(labels.cpu().numpy(), weights)
            for one, (hidden, inputs) in zip(sums, terms.of(states), strict=True):
                one.add(hidden, inputs, row_weights)
        for one in sums:
            one.flush()
    return sums


def _largest_square(sums: GramSums | DeviceSums) -> float:
    return max(float(values.max(initial=0.0)) for values in (sums.diagonal(), sums.yy, sums.total))


def band_source(source: RowSource, network: ELMReadout, settings: ReadoutSection, band: int, scale: float) -> RowSource:
    """Return the rows with the scaled deep features of a band in place of the states; all layers are solved.

    Parameters
    ----------
    source : RowSource
    network : ELMReadout
    settings : ReadoutSection
    band : int
    scale : float
        Factor of the deep features, as `scale_of` returns it for those of the first partition.
    """

    def deep(states: torch.Tensor) -> torch.Tensor:
        network.to(states.device)
        return network.layer_input(states.float(), band, settings.layers) * scale

    def mapped(partitions: Iterable[Blocks]) -> Iterator[Blocks]:
        for partition in partitions:
            yield ((deep(states), labels) for states, labels in partition)

    def gather() -> GatheredRows | None:
        rows = source.gather()
        return None if rows is None else replace(rows, states=deep(rows.states), joined_at=0)

    return replace(
        source,
        width=settings.hidden,
        partitions=lambda: mapped(source.partitions()),
        validation=lambda: mapped(source.validation()),
        gather=gather,
        bound=DEEP_BOUND,
    )
