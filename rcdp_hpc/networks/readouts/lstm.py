"""An LSTM over the kept states as readout."""

from __future__ import annotations

from torch import nn

from rcdp_hpc.networks.readouts.recurrent import RecurrentReadout


class LSTMReadout(RecurrentReadout):
    """An LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    With g the logistic sigmoid and ∘ the product by element, a step is

    ``i, f, r = g(W_i o_t + U_i h + b_i), g(W_f o_t + U_f h + b_f), g(W_r o_t + U_r h + b_r)``
    ``c' = f ∘ c + i ∘ tanh(W_c o_t + U_c h + b_c),  h' = r ∘ tanh(c')``

    Parameters as `RecurrentReadout`.
    """

    def make_layers(self, inputs: int, hidden: int, layers: int) -> nn.RNNBase:
        """Return the recurrent layers, which take (rows, steps, inputs)."""
        return nn.LSTM(inputs, hidden, layers, batch_first=True)
