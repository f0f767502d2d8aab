"""The rows that the layers of an extreme learning machine are solved from, and bounds of their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config, ReadoutSection
from rcdp_hpc.config.choices import READOUT_ACTIVATIONS
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.networks.readouts.elm import ELMReadout
from rcdp_hpc.reservoir.activations import load_activation
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.ram import MIB, machine_memory
from rcdp_hpc.runtime.threads import ranks_on_host
from rcdp_hpc.training.solve.ridge_fit import Blocks, GatheredRows, RowSource, weights_of

# Values within this bound are lost in float32 products.
LEAST_BOUND = 1e-30
# Of a rank's share of the memory, the part that its states may use if states.memory_mib is 0.
MEMORY_PART = 2


def room_for_states(config: Config, comm: Communicator) -> int:
    """Return the bytes that the states of this rank may use: ``states.memory_mib``, or half of its memory."""
    return config.states.memory_mib * MIB or machine_memory() // ranks_on_host(comm) // MEMORY_PART


def stored(source: RowSource) -> RowSource:
    """Return the rows with blocks that are stored in memory when they are used first."""
    return replace(source, partitions=_Stored(source.partitions), validation=_Stored(source.validation))


class _Stored:
    """The blocks that a callable returns, by partition; they are computed at the first call."""

    def __init__(self, compute: Callable[[], Iterable[Blocks]]) -> None:
        self._compute = compute
        self._partitions: list[list[tuple[torch.Tensor, torch.Tensor]]] | None = None

    def __call__(self) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        if self._partitions is None:
            # A block may be in a buffer that the next block overwrites.
            self._partitions = [
                [(states.clone(), labels.clone()) for states, labels in partition] for partition in self._compute()
            ]
        return self._partitions


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


def each_block(
    source: RowSource,
    weights: NDArray[np.float64] | None,
    add: Callable[[torch.Tensor, NDArray[np.float64] | None], None],
    flush: Callable[[], None],
) -> None:
    """Call `add` with the states and row weights of each block of training rows, and `flush` after each partition."""
    for partition in source.partitions():
        for states, labels in partition:
            add(states, weights_of(labels.cpu().numpy(), weights))
        flush()


def largest_feature(comm: Communicator, source: RowSource) -> float:
    """Return the bound of the features, or if they have none, their largest absolute value over all rows. Collective.

    Raises
    ------
    CandidateError
        If a feature is not finite.
    """
    if source.bound is not None:
        return source.bound

    def of_rank() -> float:
        blocks = (block for rows in (source.partitions(), source.validation()) for part in rows for block in part)
        return max((_largest(states) for states, _ in blocks), default=0.0)

    return float(comm.allreduce(np.array([agree(comm, of_rank)]), "max")[0])


def _largest(states: torch.Tensor) -> float:
    largest = float(states.abs().max()) if states.numel() else 0.0
    if not math.isfinite(largest):
        raise CandidateError("the extreme learning machine cannot be solved: its features are not finite")
    return largest


def band_source(
    source: RowSource, network: ELMReadout, settings: ReadoutSection, band: int, bound: float
) -> tuple[RowSource, float]:
    """Return the rows with the scaled deep features of a band in place of the states; all layers are solved.

    Parameters
    ----------
    source : RowSource
    network : ELMReadout
    settings : ReadoutSection
    band : int
    bound : float
        Largest absolute value of a state.

    Returns
    -------
    source : RowSource
    scale : float
        The factor of the deep features, a power of two.
    """
    reach = bound_of_input(network, settings, band, settings.layers, bound)
    scale = scale_of(reach)

    def deep(states: torch.Tensor) -> torch.Tensor:
        network.to(states.device)
        return network.layer_input(states.float(), band, settings.layers) * scale

    def mapped(partitions: Iterable[Blocks]) -> Iterator[Blocks]:
        for partition in partitions:
            yield ((deep(states), labels) for states, labels in partition)

    def gather() -> GatheredRows | None:
        rows = source.gather()
        return None if rows is None else replace(rows, states=deep(rows.states), joined_at=0)

    rows = replace(
        source,
        width=settings.hidden,
        partitions=lambda: mapped(source.partitions()),
        validation=lambda: mapped(source.validation()),
        gather=gather,
        bound=None if reach is None else reach * scale,
    )
    return rows, scale


def bound_of_input(network: ELMReadout, settings: ReadoutSection, band: int, layer: int, bound: float) -> float | None:
    """Return a bound of the input of a layer, whose layers before it are solved; None if the activation has none.

    Parameters
    ----------
    network : ELMReadout
    settings : ReadoutSection
    band, layer : int
        As of `ELMReadout.layer_input`.
    bound : float
        Largest absolute value of a state.
    """
    columns = slice(band * network.band_features, (band + 1) * network.band_features)
    mean, scale = (values[columns].double() for values in (network.state_mean, network.state_scale))
    reach: float | None = float(((bound + mean.abs()) * scale).max())
    for number in range(layer):
        weights = network.machine(band).layer(number).weight
        reach = None if reach is None else bound_of_units(settings, weights, reach)
    return reach


def bound_of_units(settings: ReadoutSection, weights: torch.Tensor, inputs: float, bias: float = 0.0) -> float | None:
    """Return a bound of the values g(W x + b) of units.

    Parameters
    ----------
    settings : ReadoutSection
        Names g.
    weights : torch.Tensor, shape (units, inputs)
    inputs, bias : float
        Largest absolute value of x and of b.
    """
    activation = load_activation(settings.activation, READOUT_ACTIVATIONS)
    if activation.growth is None:
        return activation.bound
    reach = activation.growth * (inputs * float(weights.double().abs().sum(1).max()) + bias)
    return reach if activation.bound is None else min(reach, activation.bound)


def scale_of(bound: float | None) -> float:
    """Return a power of two that brings values within a bound near to 1, so that sums of small values are exact, too.

    Multiplying by it is exact. 1 without a bound, and for a bound that float32 does not tell from 0.
    """
    return 2.0 ** -math.ceil(math.log2(bound)) if bound is not None and bound > LEAST_BOUND else 1.0
