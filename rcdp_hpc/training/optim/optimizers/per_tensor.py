"""The base class of the package's own optimisers: each tensor is updated by itself, if needed with Adam's moments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch


class PerTensorOptimizer(torch.optim.Optimizer):
    """An optimiser whose update of a tensor depends on no other tensor."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update the weights.

        Parameters
        ----------
        closure : callable, optional
            Computes loss and gradients before the update.

        Returns
        -------
        The loss that `closure` returns; None without `closure`.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._update(weights, weights.grad, group)
        return loss

    @abstractmethod
    def _update(self, weights: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        """Update one tensor in place."""

    def _adam_moments(
        self, weights: torch.Tensor, gradient: torch.Tensor, betas: tuple[float, float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Update Adam's moments with a gradient and return both, corrected for their bias.

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
