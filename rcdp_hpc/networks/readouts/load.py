"""The readout that a configuration names."""

from __future__ import annotations

from functools import partial

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import READOUTS
from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.losses import loss_of
from rcdp_hpc.networks.readouts.solved_ensemble import SolvedEnsemble
from rcdp_hpc.networks.readouts.user import UserReadout
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.user_code import load_choice


def one_member(config: Config) -> Config:
    """Return the configuration of one member of an ensemble of solved readouts."""
    return config.model_copy(update={"readout": config.readout.model_copy(update={"members": 1})})


def build_readout(
    config: Config, shape: FeatureShape, classes: int, seed: int, parallel: Strategy | None = None
) -> Network:
    """Return the readout that ``readout.kind`` names, with its initial weights and the link of ``loss.kind``.

    With ``readout.members`` above 1 it is an ensemble of this number of solved readouts.

    Parameters
    ----------
    config : Config
    shape : FeatureShape
        The order of a sample's features in its row.
    classes : int
        Number of classes.
    seed : int
        Determines the initial weights.
    parallel : Strategy, optional
        Sums batch statistics over ranks; default: one process.

    Raises
    ------
    InputError
        If a class of the user's own cannot be imported, or breaks its contract.
    """
    members = config.readout.members
    if members > 1:
        single = one_member(config)
        return SolvedEnsemble([build_readout(single, shape, classes, seed, parallel) for _ in range(members)])  # type: ignore[misc]
    kind = config.readout.kind
    target = load_choice(READOUTS, kind)
    make = target if kind in READOUTS else partial(UserReadout, target, kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Network = make(config.readout, shape, classes, parallel)
    network.use_link(partial(loss_of, config.loss))
    return network
