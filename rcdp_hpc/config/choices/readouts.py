"""Readouts: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

READOUTS = ChoiceTable(
    "readout.kind",
    (
        Choice("network", "the network of eq. 10 and 11 (paper)"),
        Choice("ridge", "linear, solved by ridge regression"),
        Choice("lstm", "LSTM over the kept states"),
        Choice("gru", "GRU over the kept states"),
        Choice("transformer", "transformer over the kept states"),
        Choice("convolution", "convolution over the kept states"),
    ),
    user_class="a readout of your own (docs/networks.md)",
)
