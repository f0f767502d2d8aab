"""A moving average of the weights, which is evaluated and saved instead of the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class MovingAverage:
    """Exponential moving average of weights and running statistics.

    ``e <- d e + (1 - d) w`` after each step, starting from the initial weights (the averaging of Polyak and Juditsky
    1992, in its exponential form).

    Parameters
    ----------
    network : nn.Module
        The network with the weights w.
    decay : float
        d; an update after n steps uses d^n.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, network: nn.Module, steps: int) -> None:
        """Update the average with the current weights, `steps` steps after the last update."""
        share = 1 - self.decay**steps
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value.detach(), share)
            else:
                self.weights[name].copy_(value)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Replace the network's weights by the average within the block."""
        current = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(current)

    def restore(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Continue from saved averages."""
        for name, value in self.weights.items():
            value.copy_(weights[name])
