"""Source of states and network as the configuration names them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.identity_source import StateSource


def make_source(
    config: Config,
    sample_shape: Sequence[int],
    device: torch.device,
    matrices: ReservoirMatrices | None = None,
) -> StateSource:
    """Return the source of the rows that are cached for the training.

    The rows are reservoir states, or the samples themselves if the extractor is trained. The learned part of an
    extractor has zeros as values until it is learned or loaded (`rcdp_hpc.networks.learned_source`).

    Parameters
    ----------
    config : Config
    sample_shape : sequence of int
        Shape of one sample.
    device : torch.device
    matrices : ReservoirMatrices, optional
        The user's own matrices of the reservoir; default: as the configuration says.

    Raises
    ------
    InputError
        If the samples have another shape than the extractor or the reservoir takes.
    """
    return extractor_of(config, sample_shape).source(device, matrices)


def build_network(
    config: Config,
    sample_shape: Sequence[int],
    source: StateSource,
    classes: int,
    seed: int,
    parallel: Strategy | None = None,
) -> Network:
    """Return the network that reads the rows of a source, with its initial weights.

    Parameters
    ----------
    config : Config
        The sections extractor, reservoir, readout and augment are used.
    sample_shape : sequence of int
        Shape of one sample.
    source : StateSource
        As `make_source` returns it; the network is put on its device.
    classes : int
        Number of classes.
    seed : int
        Determines the initial weights.
    parallel : Strategy, optional
        Sums batch statistics over ranks; default: one process.

    Raises
    ------
    InputError
        If the samples have another shape than the extractor takes, or a class of the user's own breaks its contract.
    """
    return extractor_of(config, sample_shape).network(source, classes, seed, parallel)
