"""The schedule that lowers the rate every few epochs."""

from __future__ import annotations

from rcdp_hpc.training.optim.schedules.base import Schedule


class Step(Schedule):
    """``factor^(epoch // interval)``, with ``schedule.factor`` and ``schedule.interval``."""

    def factor(self, epoch: int, t: int) -> float:
        """Return the factor of a step."""
        return float(self.settings.factor ** (epoch // self.settings.interval))
