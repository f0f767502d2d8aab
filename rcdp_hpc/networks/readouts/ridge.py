"""The network of a readout that is solved by ridge regression."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.losses import Loss
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.reservoir.positive_shares import LEAST_SHARE
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.ridge import RidgeReadout

__all__ = ["LEAST_SHARE", "RidgeNetwork"]


class RidgeNetwork(Network):
    """A linear readout whose weights come from `rcdp_hpc.reservoir.ridge`.

    z = W s + b approximates one-hot classes. The scores are log(max(z, 1e-6)), so that their softmax is z without its
    negative entries, scaled to the sum 1. Parameters as `Readout`, of which it reads only the shape and `classes`.
    """

    def __init__(
        self, settings: ReadoutSection, shape: FeatureShape, classes: int, parallel: Strategy | None = None
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(shape.features, classes)

    def use_link(self, loss: Callable[[], Loss]) -> None:
        """Keep the softmax: the scores are logarithms of what the readout is solved for, whatever the loss."""

    def forward(self, features: torch.Tensor, rng: SampleRng | None = None) -> torch.Tensor:
        """Return class scores (rows, classes) of features (rows, features)."""
        return torch.log(self.linear_scores(features).clamp_min(LEAST_SHARE))

    def linear_scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return z, which approximates one-hot classes, shape (rows, classes), of features (rows, features)."""
        scores: torch.Tensor = self.linear(features)
        return scores

    def scored(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities and z; as `Network.scored`."""
        z = self.linear(features)
        return self.link(torch.log(z.clamp_min(LEAST_SHARE))), z

    @staticmethod
    def weights_of(readout: RidgeReadout) -> dict[str, torch.Tensor]:
        """Return the state of a network that computes this readout."""
        return {
            "linear.weight": torch.from_numpy(readout.weights.T.copy()).float(),
            "linear.bias": torch.from_numpy(readout.intercept).float(),
        }
