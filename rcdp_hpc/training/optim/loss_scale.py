"""Loss scaling, which keeps small gradients within float16 (Micikevicius et al. 2018, Mixed precision training)."""

from __future__ import annotations

import torch
from torch import nn

# Steps with finite gradients after which the factor is doubled.
GROWTH_STEPS = 2000
FIRST_FACTOR = 2.0**16
LARGEST_FACTOR = 2.0**24


class LossScale:
    """A power of two that multiplies the loss before the backward pass and divides the gradients after it.

    If the summed gradient is not finite, the factor is halved and the step is repeated. All ranks see the same sum, so
    they halve together. No step is skipped, because each epoch should see every sample once.

    Parameters
    ----------
    enabled : bool
        If False, the factor is always 1.

    Attributes
    ----------
    factor : float
    finite_steps : int
        Steps since the factor was changed.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.factor = FIRST_FACTOR if enabled else 1.0
        self.finite_steps = 0

    def unscale(self, network: nn.Module, inverse: torch.Tensor | None = None) -> None:
        """Divide the gradients by the factor.

        Parameters
        ----------
        network : nn.Module
        inverse : torch.Tensor, 0-dim, optional
            1 / `factor` on the device of the gradients, which a recorded step reads; default: that of this step.
        """
        if self.enabled:
            gradients = [weights.grad for weights in network.parameters() if weights.grad is not None]
            torch._foreach_mul_(gradients, 1 / self.factor if inverse is None else inverse)

    def grow(self) -> None:
        """Count a step with a finite gradient; double the factor after `GROWTH_STEPS` of them."""
        self.finite_steps += 1
        if self.enabled and self.finite_steps >= GROWTH_STEPS:
            self.factor = min(2 * self.factor, LARGEST_FACTOR)
            self.finite_steps = 0

    def lower(self) -> bool:
        """Halve the factor and return True; return False if it is 1, since scaling is then not the cause."""
        if self.factor <= 1:
            return False
        self.factor /= 2
        self.finite_steps = 0
        return True

    def state(self) -> list[float]:
        """Return what `restore` needs."""
        return [self.factor, float(self.finite_steps)]

    def restore(self, state: list[float]) -> None:
        """Continue from a saved state."""
        self.factor = state[0]
        self.finite_steps = int(state[1])
