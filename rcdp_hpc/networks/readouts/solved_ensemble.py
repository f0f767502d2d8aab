"""Several solved readouts as one network, whose scores are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.disagreement import mutual_information
from rcdp_hpc.networks.losses import Loss
from rcdp_hpc.networks.readouts.elm import ELMReadout
from rcdp_hpc.networks.readouts.ridge import LEAST_SHARE, RidgeNetwork
from rcdp_hpc.networks.sample_rng import SampleRng


class SolvedEnsemble(Network):
    """Solved readouts whose z, the approximations of one-hot classes, are averaged (``readout.members``).

    The scores are log(max(mean z, 1e-6)), so that their softmax is the mean of z without its negative entries, scaled
    to the sum 1. The mean is not one of logarithms: a member with z <= 0 would rule a class out for all of them.

    Parameters
    ----------
    members : sequence of RidgeNetwork or ELMReadout
        With the same features and classes.
    """

    def __init__(self, members: Sequence[RidgeNetwork | ELMReadout]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def use_link(self, loss: Callable[[], Loss]) -> None:
        """Keep the softmax: the scores are logarithms of what the members are solved for, whatever the loss."""

    def forward(self, features: torch.Tensor, rng: SampleRng | None = None) -> torch.Tensor:
        """Return class scores (rows, classes) of features (rows, features)."""
        return torch.log(self.linear_scores(features).clamp_min(LEAST_SHARE))

    def scored(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities and the mean of the members' z; as `Network.scored`."""
        z = self.linear_scores(features)
        return self.link(torch.log(z.clamp_min(LEAST_SHARE))), z

    def linear_scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return the mean of the members' z, shape (rows, classes), of features (rows, features)."""
        return torch.stack([member.linear_scores(features) for member in self.members]).mean(0)  # type: ignore[operator]

    def disagreement(self, features: torch.Tensor) -> torch.Tensor:
        """Return the mutual information of the members' probabilities; parameters as `Network.disagreement`."""
        return mutual_information(torch.stack([member.probabilities(features) for member in self.members]))  # type: ignore[operator]

    @staticmethod
    def joined(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return the state of an ensemble from those of its members."""
        return {
            f"members.{number}.{name}": value for number, state in enumerate(states) for name, value in state.items()
        }
