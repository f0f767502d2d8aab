"""Activations of the reservoir's neurons: a class for each (table: `rcdp_hpc.config.choices.ACTIVATIONS`)."""

from rcdp_hpc.reservoir.activations.base import Activation
from rcdp_hpc.reservoir.activations.load import load_activation

__all__ = ["Activation", "load_activation"]
