"""The base class of recurrent readouts, which read the reservoir's output step by step."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import nn

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.networks.readouts.base import SequenceReadout
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.reservoir.reductions import FeatureShape


class RecurrentReadout(SequenceReadout):
    """Class scores from the last hidden state of a recurrent network, ``scores = W h_T + b``.

    The network reads o_t = W_out s_t (eq. 10). The paper has 100 components of o_t and 128 hidden units. Layer l > 1
    reads the hidden states of layer l - 1. Sequences of unequal length are right-aligned, so that h_T is the last
    hidden state of each of them.

    Reads ``outputs`` (components of o_t), ``hidden`` (units of h), ``layers`` and ``dropout`` (of the units of h_T);
    parameters as `Readout`.
    """

    def __init__(
        self, settings: ReadoutSection, shape: FeatureShape, classes: int, parallel: Strategy | None = None
    ) -> None:
        super().__init__(settings, shape, classes, parallel)
        self.recurrent = self.make_layers(settings.outputs, settings.hidden, settings.layers)
        self.scores = nn.Linear(settings.hidden, classes)
        self.dropped_units = [settings.hidden]

    @abstractmethod
    def make_layers(self, inputs: int, hidden: int, layers: int) -> nn.RNNBase:
        """Return the recurrent layers, which take (rows, steps, inputs)."""

    def read(self, standard: torch.Tensor, rng: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""
        hidden, _ = self.recurrent(self.outputs(standard))
        scores: torch.Tensor = self.scores(self.drop(hidden[:, -1], rng, layer=0))
        return scores
