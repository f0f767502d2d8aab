"""Sources of states with a part that is learned before the training, without labels, and then stays as it is."""

from __future__ import annotations

from torch import Tensor, nn

from rcdp_hpc.reservoir.identity_source import StateSource


class LearnedSource(StateSource):
    """A source whose rows depend on what was learned from training rows: a dictionary, or biases of kernels.

    Attributes
    ----------
    learned : nn.Module
        Its state is what a model file has to hold.
    """

    learned: nn.Module


def learned_of(source: StateSource) -> dict[str, Tensor]:
    """Return what was learned for a source before the training, which a model file has to hold; often nothing."""
    return source.learned.state_dict() if isinstance(source, LearnedSource) else {}
