"""The readouts by the names that the configuration knows them by."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rcdp_hpc.config import Config, ReadoutSection
from rcdp_hpc.networks.base import Readout
from rcdp_hpc.networks.convolution import ConvolutionReadout
from rcdp_hpc.networks.mlp import MLPReadout
from rcdp_hpc.networks.recurrent import RecurrentReadout
from rcdp_hpc.networks.transformer import TransformerReadout
from rcdp_hpc.networks.user import UserReadout
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.reservoir.reductions import FeatureShape

Maker = Callable[[ReadoutSection, FeatureShape, int, SingleProcessEngine], Readout]


def _network(settings: ReadoutSection, kept: FeatureShape, classes: int, parallel: SingleProcessEngine) -> Readout:
    return MLPReadout(kept, settings.outputs, settings.hidden, classes, settings.relu_slope, settings.dropout, parallel)


def _recurrent(settings: ReadoutSection, kept: FeatureShape, classes: int, parallel: SingleProcessEngine) -> Readout:
    return RecurrentReadout(
        settings.kind, kept, settings.outputs, settings.hidden, settings.layers, classes, settings.dropout
    )


def _transformer(settings: ReadoutSection, kept: FeatureShape, classes: int, parallel: SingleProcessEngine) -> Readout:
    return TransformerReadout(
        kept, settings.outputs, settings.hidden, settings.layers, settings.heads, classes, settings.dropout
    )


def _convolution(settings: ReadoutSection, kept: FeatureShape, classes: int, parallel: SingleProcessEngine) -> Readout:
    return ConvolutionReadout(
        kept, settings.outputs, settings.hidden, settings.layers, settings.kernel_size, classes, settings.dropout,
        parallel,
    )  # fmt: skip


READOUTS: dict[str, Maker] = {
    "network": _network,
    "lstm": _recurrent,
    "gru": _recurrent,
    "transformer": _transformer,
    "convolution": _convolution,
}


def build_readout(
    config: Config, kept: FeatureShape, classes: int, seed: int, parallel: SingleProcessEngine | None = None
) -> Readout:
    """Return the trained readout that `config` names.

    Parameters
    ----------
    config : Config
    kept : FeatureShape
        How the values of a sample lie in its row.
    classes, seed : int
        Number of classes; what the initial weights depend on, and nothing else.
    parallel : Alone, optional
        How batch statistics are summed over ranks; default: one process.

    Raises
    ------
    InputError
        If a class of the user's own breaks its contract.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if ":" in config.readout.kind:
            return UserReadout(config.readout.kind, kept, classes, parallel)
        return READOUTS[config.readout.kind](config.readout, kept, classes, parallel or SingleProcessEngine())
