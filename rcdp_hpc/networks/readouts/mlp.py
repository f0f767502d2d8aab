"""The readout network of eq. 10 and 11."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.readouts.base import Readout
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.reservoir.reductions import FeatureShape


class MLPReadout(Readout):
    """Class scores from reservoir states (``readout.kind = "network"``).

    ``o = W_out s`` (eq. 10), ``z = ReLU(w_1 ReLU(w_2 o + b_2) + b_1)`` (eq. 11), scores = W z + b. The input of each
    ReLU is batch-normalised; the biases b_2 and b_1 are the shifts of the normalisations.

    Reads ``outputs`` (components of o), ``hidden`` (units of both ReLU layers), ``relu_slope`` (slope below zero) and
    ``dropout``; parameters as `Readout`.
    """

    def __init__(
        self, settings: ReadoutSection, shape: FeatureShape, classes: int, parallel: Strategy | None = None
    ) -> None:
        super().__init__(settings, shape, classes, parallel)
        parallel = parallel or single_process()
        hidden = settings.hidden
        self.output_map = nn.Linear(shape.features, settings.outputs, bias=False)
        self.inner = nn.Linear(settings.outputs, hidden, bias=False)
        self.inner_norm = SyncBatchNorm(hidden, parallel, "norm.inner")
        self.outer = nn.Linear(hidden, hidden, bias=False)
        self.outer_norm = SyncBatchNorm(hidden, parallel, "norm.outer")
        self.scores = nn.Linear(hidden, classes)
        self.relu = nn.LeakyReLU(settings.relu_slope)

    def read(self, standard: torch.Tensor, rng: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""
        hidden = self.relu(self.inner_norm(self.inner(self.output_map(standard))))
        hidden = self.drop(hidden, rng, layer=0)
        hidden = self.relu(self.outer_norm(self.outer(hidden)))
        hidden = self.drop(hidden, rng, layer=1)
        scores: torch.Tensor = self.scores(hidden)
        return scores
