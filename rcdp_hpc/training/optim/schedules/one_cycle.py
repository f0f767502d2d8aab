"""The one-cycle schedule."""

from __future__ import annotations

from rcdp_hpc.training.optim.schedules.base import Schedule, half_cosine

START = 1 / 25
END = 1 / 25e4
RISE = 0.3


class OneCycle(Schedule):
    """One rise and one fall (Smith and Topin, "Super-convergence", 2018), without changing the momentum.

    The factor rises on half a cosine from 1/25 to 1 during the warm-up (without one, the first 30 % of all steps). It
    falls to 1/250,000 on another half cosine in the other steps.
    """

    linear_warmup = False

    def factor(self, epoch: int, t: int) -> float:
        """Return the factor of a step."""
        rise = self.warmup or max(1, round(RISE * self.total))
        if t < rise:
            return 1 + (START - 1) * half_cosine(t / rise)
        return END + (1 - END) * half_cosine((t - rise) / max(1, self.total - rise))
