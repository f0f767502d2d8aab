"""What the package's own optimisers share: a step that goes from tensor to tensor, and Adam's moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class PerTensorOptimizer(torch.optim.Optimizer):
    """An optimiser whose step of one tensor knows nothing of the others'."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update the weights; `closure`, where given, computes loss and gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._update(weights, weights.grad, group)
        return loss

    def _update(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        raise NotImplementedError

    def _adam_moments(
        self, weights: torch.Tensor, gradient: torch.Tensor, betas: tuple[float, float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the gradient into Adam's moments and return both, rid of their bias.

        ``m_t = b1 m_(t-1) + (1 - b1) g_t`` and ``v_t = b2 v_(t-1) + (1 - b2) g_t^2``, divided by ``1 - b1^t`` and
        ``1 - b2^t`` (Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1).
        """
        state, (b1, b2) = self.state[weights], betas
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(weights), exp_avg_sq=torch.zeros_like(weights))
        state["step"] += 1
        first = state["exp_avg"].mul_(b1).add_(gradient, alpha=1 - b1) / (1 - b1 ** state["step"])
        second = state["exp_avg_sq"].mul_(b2).addcmul_(gradient, gradient, value=1 - b2) / (1 - b2 ** state["step"])
        return first, second
