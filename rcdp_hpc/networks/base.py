"""What all trained readouts share: standardised input, eq. 10 at every step, dropout that follows the sample."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.reservoir.reductions import FeatureShape

LEAST_DEVIATION = 1e-3


class Readout(nn.Module, ABC):
    """Class scores from what is kept of the states of a sample.

    The values s are standardised first, by the mean and deviation over the training rows: many nodes hardly move, and
    Adam is slow where scales differ.

    Parameters
    ----------
    kept : FeatureShape
        How the values of a sample lie in its row.
    dropout : float
        Share of hidden units dropped in training.
    """

    state_mean: torch.Tensor
    state_scale: torch.Tensor

    def __init__(self, kept: FeatureShape, dropout: float) -> None:
        super().__init__()
        self.feature_shape, self.dropout = kept, dropout
        self.register_buffer("state_mean", torch.zeros(kept.features))
        self.register_buffer("state_scale", torch.ones(kept.features))

    def forward(self, states: torch.Tensor, draw: SampleRng | None = None) -> torch.Tensor:
        """Return class scores (rows, classes) of states (rows, features); `draw` drops hidden units."""
        return self.read((states - self.state_mean) * self.state_scale, draw)

    @abstractmethod
    def read(self, standard: torch.Tensor, draw: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""

    def standardise(self, sums: torch.Tensor, squares: torch.Tensor, rows: int) -> None:
        """Fix the standardisation of the states.

        Parameters
        ----------
        sums, squares : torch.Tensor, shape (features,), float64
            Sum and sum of squares of each feature over the training rows of all ranks.
        rows : int
            How many rows these are.
        """
        if self.feature_shape.raw:
            # Pixels that are seldom lit would be blown up, each by itself: inputs have one scale for all.
            sums, squares = sums.mean().expand_as(sums), squares.mean().expand_as(squares)
        mean = sums / rows
        deviation = (squares / rows - mean * mean).clamp_min(0).sqrt()
        self.state_mean.copy_(mean.float())
        # A node that does not move at all would otherwise be blown up into rounding noise.
        self.state_scale.copy_((1 / (deviation + LEAST_DEVIATION)).float())

    def drop(self, hidden: torch.Tensor, draw: SampleRng | None, layer: int) -> torch.Tensor:
        """Drop units of hidden values (rows, units); each layer of a network has a number of its own."""
        if draw is None or not self.dropout or not self.training:
            return hidden
        return hidden * draw.keep_mask(hidden.shape[1], self.dropout, layer)


class SequenceReadout(Readout):
    """A readout that takes the kept steps one by one.

    ``o_t = W_out s_t`` (eq. 10) at each step t, s_t the states of all parts of the reservoir after it.

    Parameters
    ----------
    kept : FeatureShape
    outputs : int
        Components of o_t.
    dropout : float
    """

    def __init__(self, kept: FeatureShape, outputs: int, dropout: float) -> None:
        super().__init__(kept, dropout)
        self.output_map = nn.Linear(kept.parts * kept.width, outputs, bias=False)

    def outputs(self, standard: torch.Tensor) -> torch.Tensor:
        """Return o of standardised states (rows, features), shape (rows, steps, outputs)."""
        result: torch.Tensor = self.output_map(self.feature_shape.by_step(standard))
        return result
