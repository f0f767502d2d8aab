"""Several trained networks as one: their scores are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.sample_rng import SampleRng

Weights = dict[str, torch.Tensor]


class Ensemble(Network):
    """Networks side by side; their scores are averaged.

    Parameters
    ----------
    members : sequence of nn.Module
        Each gives scores of the same classes.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: torch.Tensor, draw: SampleRng | None = None) -> torch.Tensor:
        """Return the mean of the members' scores, shape (rows, classes)."""
        return torch.stack([member(features, draw) for member in self.members]).mean(0)

    @staticmethod
    def count(weights: Weights) -> int:
        """Return how many members an ensemble has whose state this is; 0 where it is that of a single network."""
        return len({name.split(".")[1] for name in weights if name.startswith("members.")})
