"""Reductions of the states of a sequence: a class for each (table: ``reservoir.reduction``), and their joint shape."""

from rcdp_hpc.reservoir.reductions.feature_shape import FeatureShape, feature_shape, values_per_neuron
from rcdp_hpc.reservoir.reductions.joined import JoinedReductions, reduction_class

__all__ = ["FeatureShape", "JoinedReductions", "feature_shape", "reduction_class", "values_per_neuron"]
