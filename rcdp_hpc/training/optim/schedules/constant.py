"""The constant schedule."""

from __future__ import annotations

from rcdp_hpc.training.optim.schedules.base import Schedule


class Constant(Schedule):
    """Factor 1 at every step."""

    def factor(self, epoch: int, t: int) -> float:
        """Return 1."""
        return 1.0
