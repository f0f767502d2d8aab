"""The pruner that a configuration names."""

from __future__ import annotations

from torch import nn

from rcdp_hpc.config import Config
from rcdp_hpc.training.pruning.gates import GatePruner
from rcdp_hpc.training.pruning.pruner import MagnitudePruner, Pruner


def make_pruner(config: Config, network: nn.Module, steps: int) -> Pruner | None:
    """Return what removes weights of a network in its training; None if all of them are kept.

    Parameters
    ----------
    config : Config
    network : nn.Module
    steps : int
        Steps of an epoch.
    """
    settings = config.pruning
    if not settings.active:
        return None
    if settings.method == "l0":
        return GatePruner(settings, network, steps, config.run.seed)
    return MagnitudePruner(settings, network, steps)
