"""The readout network of eq. 10 and 11."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.networks.base import Readout
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.reservoir.reductions import FeatureShape


class MLPReadout(Readout):
    """Class scores from reservoir states.

    ``o = W_out s`` (eq. 10), ``z = ReLU(w_1 ReLU(w_2 o + b_2) + b_1)`` (eq. 11), scores = W z + b. Each ReLU's input is
    batch-normalised, and its bias b_2, b_1 is the normalisation's shift.

    Parameters
    ----------
    kept : FeatureShape
        How the states s of a sample lie in its row.
    outputs, hidden, classes : int
        Width of the reservoir output o, of both ReLU layers, and of the scores.
    relu_slope : float
        Slope below zero; 0 is the plain ReLU.
    dropout : float
        Share of hidden units dropped in training.
    parallel : Alone, optional
        How batch statistics are summed over ranks; default: one process.
    """

    def __init__(
        self,
        kept: FeatureShape,
        outputs: int,
        hidden: int,
        classes: int,
        relu_slope: float = 0.0,
        dropout: float = 0.0,
        parallel: SingleProcessEngine | None = None,
    ) -> None:
        super().__init__(kept, dropout)
        parallel = parallel or SingleProcessEngine()
        self.output_map = nn.Linear(kept.features, outputs, bias=False)
        self.inner = nn.Linear(outputs, hidden, bias=False)
        self.inner_norm = SyncBatchNorm(hidden, parallel, "norm.inner")
        self.outer = nn.Linear(hidden, hidden, bias=False)
        self.outer_norm = SyncBatchNorm(hidden, parallel, "norm.outer")
        self.scores = nn.Linear(hidden, classes)
        self.relu = nn.LeakyReLU(relu_slope)

    def read(self, standard: torch.Tensor, draw: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""
        hidden = self.relu(self.inner_norm(self.inner(self.output_map(standard))))
        hidden = self.drop(hidden, draw, layer=0)
        hidden = self.relu(self.outer_norm(self.outer(hidden)))
        hidden = self.drop(hidden, draw, layer=1)
        scores: torch.Tensor = self.scores(hidden)
        return scores
