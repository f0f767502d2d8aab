"""Random under-sampling: some rows of the larger classes are left out."""

from __future__ import annotations

from rcdp_hpc.balance_check.methods.resampled import Resampled


class RandomUnder(Resampled):
    """``data.balance = "random_under"``."""

    balance = "random_under"
