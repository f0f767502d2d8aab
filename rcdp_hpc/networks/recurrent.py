"""Recurrent readouts: LSTM and GRU over the reservoir's output, step by step."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.networks.base import SequenceReadout
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.reservoir.reductions import FeatureShape


class RecurrentReadout(SequenceReadout):
    """Class scores from the last hidden state of a recurrent network, ``scores = W h_T + b``.

    With o_t = W_out s_t (eq. 10; the paper has 100 components, and 128 hidden units), g the logistic sigmoid and ∘ the
    product by element, the LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000) is

    ``i, f, r = g(W_i o_t + U_i h + b_i), g(W_f o_t + U_f h + b_f), g(W_r o_t + U_r h + b_r)``
    ``c' = f ∘ c + i ∘ tanh(W_c o_t + U_c h + b_c),  h' = r ∘ tanh(c')``

    and the GRU (Cho et al. 2014, in torch's form)

    ``r, u = g(W_r o_t + U_r h + b_r), g(W_u o_t + U_u h + b_u)``
    ``n = tanh(W_n o_t + b_n + r ∘ (U_n h + d_n)),  h' = (1 - u) ∘ n + u ∘ h``

    Layer l > 1 reads the hidden states of the one below. Sequences of unequal length end at the last step, so that h_T
    is each one's own last.

    Parameters
    ----------
    kind : {"lstm", "gru"}
    kept : FeatureShape
        How the states of a sample lie in its row.
    outputs, hidden, layers, classes : int
        Components of o_t, units of h, recurrent layers, scores.
    dropout : float
        Share of the units of h_T dropped in training.
    """

    def __init__(
        self, kind: str, kept: FeatureShape, outputs: int, hidden: int, layers: int, classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__(kept, outputs, dropout)
        cell = {"lstm": nn.LSTM, "gru": nn.GRU}[kind]
        self.recurrent = cell(outputs, hidden, layers, batch_first=True)
        self.scores = nn.Linear(hidden, classes)

    def read(self, standard: torch.Tensor, draw: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""
        hidden, _ = self.recurrent(self.outputs(standard))
        scores: torch.Tensor = self.scores(self.drop(hidden[:, -1], draw, layer=0))
        return scores
