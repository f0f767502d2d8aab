"""WOA-LSTM: an LSTM searched by whale optimisation.

S. Mirjalili, A. Lewis, "The whale optimization algorithm", Advances in Engineering Software 95 (2016) 51-67.
"""

from __future__ import annotations

from rcdp_hpc.comparison.methods.lstm import SearchedLSTM


class WhaleLSTM(SearchedLSTM):
    """`SearchedLSTM` with whale optimisation (`rcdp_hpc.search.optimizers.whale`)."""

    optimizer = "woa"
