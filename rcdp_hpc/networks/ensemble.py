"""Several trained networks as one network, whose scores are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.disagreement import mutual_information
from rcdp_hpc.networks.sample_rng import SampleRng

Weights = dict[str, torch.Tensor]


class Ensemble(Network):
    """Several networks whose scores are averaged.

    Parameters
    ----------
    members : sequence of Network
        Networks with the same classes and the same link from scores to probabilities.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: torch.Tensor, rng: SampleRng | None = None) -> torch.Tensor:
        """Return the mean of the members' scores, shape (rows, classes)."""
        return torch.stack([member(features, rng) for member in self.members]).mean(0)

    def link(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the probabilities that averaged scores stand for; parameters as `Network.link`."""
        probabilities: torch.Tensor = self.members[0].link(scores)  # type: ignore[operator]
        return probabilities

    def disagreement(self, features: torch.Tensor) -> torch.Tensor:
        """Return the mutual information of the members' probabilities; parameters as `Network.disagreement`."""
        return mutual_information(torch.stack([member.probabilities(features) for member in self.members]))  # type: ignore[operator]

    @staticmethod
    def count(weights: Weights) -> int:
        """Return the number of members in the state of an ensemble; 0 if it is the state of a single network."""
        return len({name.split(".")[1] for name in weights if name.startswith("members.")})
