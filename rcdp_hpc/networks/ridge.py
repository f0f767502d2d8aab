"""The network of a readout that was solved by ridge regression."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.reservoir.ridge import RidgeReadout

LEAST_SHARE = 1e-6


class RidgeNetwork(nn.Module):
    """A linear readout in the place of a trained one.

    z = W s + b approximates one-hot classes; the scores given are log(max(z, 1e-6)), so that their softmax is z without
    what is negative, scaled to the sum 1.

    Parameters
    ----------
    features, classes : int
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return class scores (rows, classes) of states (rows, features)."""
        return torch.log(self.linear(states).clamp_min(LEAST_SHARE))

    @staticmethod
    def weights_of(readout: RidgeReadout) -> dict[str, torch.Tensor]:
        """Return the state of a network that computes this readout."""
        return {
            "linear.weight": torch.from_numpy(readout.weights.T.copy()).float(),
            "linear.bias": torch.from_numpy(readout.intercept).float(),
        }
