"""The readout network of eq. 10 and 11."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.readouts.activation import readout_activation
from rcdp_hpc.networks.readouts.base import Readout
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.reservoir.reductions import FeatureShape


class MLPReadout(Readout):
    """Class scores from reservoir states (``readout.kind = "network"``).

    ``o = W_out s`` (eq. 10), ``z = ReLU(w_1 ReLU(w_2 o + b_2) + b_1)`` (eq. 11), scores = W z + b. The input of each
    ReLU is batch-normalised; the biases b_2 and b_1 are the shifts of the normalisations. With ``layers`` = L above 1
    there are L inner layers ``ReLU(w_2 . + b_2)``, one after the other, each with weights of its own.

    Reads ``outputs`` (components of o), ``layers``, ``hidden`` (units of each ReLU layer), ``activation`` (in place of
    the ReLU), ``relu_slope`` (slope of the ReLU below zero) and ``dropout`` (after each ReLU layer); parameters as
    `Readout`.
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
        further = range(1, settings.layers)
        self.further = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in further)
        self.further_norms = nn.ModuleList(SyncBatchNorm(hidden, parallel, f"norm.inner.{layer}") for layer in further)
        self.outer = nn.Linear(hidden, hidden, bias=False)
        self.outer_norm = SyncBatchNorm(hidden, parallel, "norm.outer")
        self.scores = nn.Linear(hidden, classes)
        self.activation = readout_activation(settings)
        self.dropped_units = [hidden] * (settings.layers + 1)

    def read(self, standard: torch.Tensor, rng: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""
        hidden = self.output_map(standard)
        for layer, (weights, norm) in enumerate(self.relu_layers()):
            hidden = self.drop(self.activation(norm(weights(hidden))), rng, layer)
        scores: torch.Tensor = self.scores(hidden)
        return scores

    def relu_layers(self) -> list[tuple[nn.Linear, SyncBatchNorm]]:
        """Return the weights and normalisation of each ReLU layer, in order: the inner ones, then the outer one."""
        weights = [self.inner, *self.further, self.outer]
        norms = [self.inner_norm, *self.further_norms, self.outer_norm]
        return list(zip(weights, norms, strict=True))  # type: ignore[arg-type]
