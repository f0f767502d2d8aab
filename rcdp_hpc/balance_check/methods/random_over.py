"""Random over-sampling: rows of the smaller classes count several times."""

from __future__ import annotations

from rcdp_hpc.balance_check.methods.resampled import Resampled


class RandomOver(Resampled):
    """``data.balance = "random_over"``; copies of a row are its weight, so that they cost no states."""

    balance = "random_over"
