"""Reductions of the states of a sequence: a class for each (table: ``reservoir.reduction``), and what they give."""

from rcdp_hpc.reservoir.reductions.joined import JoinedReductions, reduction_class
from rcdp_hpc.reservoir.reductions.kept_shape import KeptShape, kept_shape, values_per_neuron

__all__ = ["JoinedReductions", "KeptShape", "kept_shape", "reduction_class", "values_per_neuron"]
