"""A GRU over the kept states as readout."""

from __future__ import annotations

from torch import nn

from rcdp_hpc.networks.readouts.recurrent import RecurrentReadout


class GRUReadout(RecurrentReadout):
    """A GRU (Cho et al. 2014, in the form of torch).

    With g the logistic sigmoid and ∘ the product by element, a step is

    ``r, u = g(W_r o_t + U_r h + b_r), g(W_u o_t + U_u h + b_u)``
    ``n = tanh(W_n o_t + b_n + r ∘ (U_n h + d_n)),  h' = (1 - u) ∘ n + u ∘ h``

    Parameters as `RecurrentReadout`.
    """

    def make_layers(self, inputs: int, hidden: int, layers: int) -> nn.RNNBase:
        """Return the recurrent layers, which take (rows, steps, inputs)."""
        return nn.GRU(inputs, hidden, layers, batch_first=True)
