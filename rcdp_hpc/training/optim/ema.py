"""The moving average of the weights, which is judged and kept in their place where it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class MovingAverage:
    """Exponential moving average of weights and running statistics.

    ``e <- d e + (1 - d) w`` after each step (the averaging of Polyak and Juditsky 1992, in its exponential form), e
    beginning as the first weights.

    Parameters
    ----------
    network : nn.Module
        Whose weights w are averaged.
    decay : float
        d; after n steps at once it counts as d^n.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, network: nn.Module, steps: int) -> None:
        """Take in the weights as they are after so many steps."""
        share = 1 - self.decay**steps
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value.detach(), share)
            else:
                self.weights[name].copy_(value)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Put the average into the network for the time of a block."""
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def restore(self, weights: dict[str, torch.Tensor]) -> None:
        """Go on from saved weights."""
        for name, value in self.weights.items():
            value.copy_(weights[name])
