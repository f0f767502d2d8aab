"""The activation of a readout's layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.config.choices import READOUT_ACTIVATIONS
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.activations import load_activation


def readout_activation(settings: ReadoutSection) -> Callable[[Tensor], Tensor]:
    """Return the function that ``readout.activation`` names; it has no weights.

    The choice "relu" is a leaky ReLU of the slope ``readout.relu_slope``, by default the plain ReLU.

    Raises
    ------
    InputError
        If the user's own function cannot be imported, or breaks the contract of `Activation`.
    """
    if settings.activation == "relu":
        return nn.LeakyReLU(settings.relu_slope)
    return load_activation(settings.activation, READOUT_ACTIVATIONS)


def check_differentiable(name: str) -> None:
    """Raise an `InputError` if torch cannot differentiate a function of the user's own for ``readout.activation``."""
    x = torch.linspace(-1, 1, 5, requires_grad=True)
    y = load_activation(name, READOUT_ACTIVATIONS)(x)
    if not y.requires_grad:
        raise InputError(
            f"{READOUT_ACTIVATIONS.key} = {name!r}: torch does not differentiate its result; expected operations of "
            "torch, without detach or numpy (docs/extending.md)"
        )
