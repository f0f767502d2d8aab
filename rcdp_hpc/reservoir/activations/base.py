"""The base class of activations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor


class Activation(ABC):
    """The function f of eq. 9, which maps each number by itself.

    Instances are created without arguments.

    Attributes
    ----------
    bound : float or None
        An upper bound of abs(f(x)), None if there is none. With a bound, sums over states are the same bits for any
        number of ranks.
    onednn : str
        Name under which oneDNN includes f in a matrix product ("none" for f(x) = x). Empty: the kernel ``fused-bf16``
        computes f after the product.
    native : bool
        Whether `apply_` is one operation of torch, or none: it takes tensors of any strides, and numbers of 16 bits,
        which it computes with in float32 and rounds once. Otherwise `apply_` gets contiguous float32 tensors.
    """

    bound: float | None = None
    onednn: str = ""
    native: bool = False

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x) in operations that torch differentiates; `x` stays unchanged.

        Parameters
        ----------
        x : torch.Tensor, any shape, float32 or float64

        Returns
        -------
        torch.Tensor
            Of the shape and dtype of `x`.
        """

    def apply_(self, x: Tensor) -> Tensor:
        """Replace `x` by f(x) in place and return it. Override it if torch has an in-place operation."""
        return x.copy_(self(x))


class FunctionActivation(Activation):
    """A plain function of a tensor as an activation.

    Parameters
    ----------
    function : callable
        Takes and returns a tensor, as `Activation.__call__`.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x)."""
        return self.function(x)
