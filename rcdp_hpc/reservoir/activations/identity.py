"""The activation ``identity``."""

from __future__ import annotations

from torch import Tensor

from rcdp_hpc.reservoir.activations.base import Activation


class Identity(Activation):
    """f(x) = x: a linear reservoir."""

    onednn = "none"
    native = True

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x` itself."""
        return x

    def apply_(self, x: Tensor) -> Tensor:
        """Leave `x` as it is."""
        return x
