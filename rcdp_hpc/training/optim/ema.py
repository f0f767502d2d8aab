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

    @torch.no_grad()
    def update(self, network: nn.Module, steps: int, halted: torch.Tensor | None = None) -> None:
        """Update the average with the current weights, `steps` steps after the last update.

        Parameters
        ----------
        network : nn.Module
        steps : int
        halted : torch.Tensor, 0-dim, optional
            Where it is 1, and not 0, the average stays as it is. Weights and statistics must be finite then, too.
        """
        share = 1 - self.decay**steps
        values = network.state_dict(keep_vars=True)
        moving = [name for name, value in values.items() if value.is_floating_point()]
        averages, current = [self.weights[name] for name in moving], [values[name] for name in moving]
        if halted is None:
            torch._foreach_lerp_(averages, current, share)
        else:
            # In the dtype of each value, so that the result is that of the number.
            masked = torch.rsub(halted.double(), 1).mul_(share)
            shares = {dtype: masked.to(dtype) for dtype in {value.dtype for value in averages}}
            torch._foreach_lerp_(averages, current, [shares[value.dtype] for value in averages])
        counts = [name for name in values if name not in moving]
        if counts:
            torch._foreach_copy_([self.weights[name] for name in counts], [values[name] for name in counts])

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
