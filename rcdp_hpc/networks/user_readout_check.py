"""A check of the user's readout class before anything expensive starts. It needs no torch to be imported."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import is_user_class
from rcdp_hpc.networks.extractors import extractor_of


def check_user_readout(config: Config, sample_shape: Sequence[int], classes: int) -> None:
    """Create and try a readout class of the user's own, if ``readout.kind`` names one and torch is installed.

    Parameters
    ----------
    config : Config
    sample_shape : sequence of int
        Shape of one sample.
    classes : int
        Number of classes.

    Raises
    ------
    InputError
        If the class cannot be imported, or breaks its contract.
    """
    if not is_user_class(config.readout.kind) or find_spec("torch") is None:
        return
    import torch

    from rcdp_hpc.networks.readouts import build_readout

    with torch.random.fork_rng(devices=[]):
        shape = extractor_of(config, sample_shape).feature_shape()
    build_readout(config, shape, classes, seed=0)
