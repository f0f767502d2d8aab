"""The factor that keeps small gradients within float16 (Micikevicius et al. 2018, Mixed precision training)."""

from __future__ import annotations

import torch
from torch import nn

# Sound steps after which a factor twice as large is tried.
PATIENCE = 2000
FIRST, LARGEST = 2.0**16, 2.0**24


class LossScale:
    """The loss is multiplied by a power of two before the backward pass, and the gradients divided by it behind.

    It is halved where the summed gradient is not finite, and the step taken again: all ranks see the same sum, and so
    halve alike. Nothing is left out, as every sample is to be seen once an epoch.

    Parameters
    ----------
    enabled : bool
        Without, the factor is 1 and stays so.

    Attributes
    ----------
    factor : float
    sound : int
        Steps since it was changed.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.factor = FIRST if enabled else 1.0
        self.sound = 0

    def unscale(self, network: nn.Module) -> None:
        """Divide the gradients by the factor."""
        if self.factor != 1:
            gradients = [weights.grad for weights in network.parameters() if weights.grad is not None]
            torch._foreach_mul_(gradients, 1 / self.factor)

    def grow(self) -> None:
        """Count a sound step, and double the factor after enough of them."""
        self.sound += 1
        if self.enabled and self.sound >= PATIENCE:
            self.factor, self.sound = min(2 * self.factor, LARGEST), 0

    def lower(self) -> bool:
        """Halve the factor; return whether it could be: what is not finite at 1 is so for another reason."""
        if self.factor <= 1:
            return False
        self.factor, self.sound = self.factor / 2, 0
        return True

    def state(self) -> list[float]:
        """Return what `restore` needs."""
        return [self.factor, float(self.sound)]

    def restore(self, state: list[float]) -> None:
        """Go on from a saved state."""
        self.factor, self.sound = state[0], int(state[1])
