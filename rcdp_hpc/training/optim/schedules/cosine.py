"""The cosine schedule."""

from __future__ import annotations

from rcdp_hpc.training.optim.schedules.base import Schedule, half_cosine


class Cosine(Schedule):
    """``(1 + cos(pi (t - w) / (T - w))) / 2``, with T steps in all and w steps of warm-up."""

    def factor(self, epoch: int, t: int) -> float:
        """Return the factor of a step."""
        return half_cosine((t - self.warmup) / (self.total - self.warmup))
