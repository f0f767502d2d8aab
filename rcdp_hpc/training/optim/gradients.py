"""Penalties of the weights, and clipping of the summed gradients, the same on all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def add_penalty(trained: Sequence[torch.Tensor], l2: float) -> None:
    """Add the gradient of ``l2/2 sum w^2``; with `shrink` it is the elastic net (Zou and Hastie 2005).

    Only weight matrices are penalised, not biases or the scales of a normalisation. The gradient is added after the sum
    over ranks, so that it counts once for any number of ranks.
    """
    if not l2:
        return
    for weights in trained:
        if weights.ndim > 1 and weights.grad is not None:
            weights.grad.add_(weights.detach(), alpha=l2)


@torch.no_grad()
def shrink(optimizer: torch.optim.Optimizer, trained: Sequence[torch.Tensor], penalty: float) -> None:
    """Take the proximal step of the penalty ``l1 sum|w|`` of weight matrices, after an update of the optimiser.

    ``w <- sign(w) max(|w| - h, 0)`` with the threshold ``h = r l1`` for the learning rate r (iterative soft
    thresholding; Daubechies, Defrise and De Mol 2004): entries become exactly 0, which a gradient of |w| does not
    achieve. Adam and its relatives divide the gradient of each weight by ``sqrt(v) + eps``; the step is then that of
    their metric, with the threshold divided alike, ``h = r l1 / (sqrt(v) + eps)`` (Yun, Lozano and Yang, "Adaptive
    proximal gradient methods for structured neural networks", 2021), so that a training still minimises the loss plus
    the penalty. v is the second moment, corrected for its bias. Lamb's ratio of norms, and the orthogonal directions of
    Muon, have no part in the threshold.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    trained : sequence of torch.Tensor
        The trained weights; vectors stay as they are.
    penalty : float
        l1.
    """
    if not penalty:
        return
    groups = {id(weights): group for group in optimizer.param_groups for weights in group["params"]}
    for weights in trained:
        if weights.ndim > 1:
            group = groups[id(weights)]
            thresholds = group["lr"] * penalty / _metric(optimizer.state.get(weights, {}), group, weights)
            weights.copy_(weights.sign() * (weights.abs() - thresholds).clamp_min(0))


def _metric(state: Mapping[str, Any], group: Mapping[str, Any], weights: torch.Tensor) -> torch.Tensor:
    """Return what an optimiser divides the gradient of each weight by; 1 if it has no second moments."""
    if not ("exp_avg_sq" in state and "step" in state and {"betas", "eps"} <= group.keys()):
        return torch.ones((), dtype=weights.dtype, device=weights.device)
    correction = 1 - group["betas"][1] ** float(state["step"])
    metric: torch.Tensor = (state["exp_avg_sq"] / correction).sqrt().add_(group["eps"])
    return metric


def clip(trained: Sequence[torch.Tensor], largest: float) -> float:
    """Scale all gradients down, as one vector, to the norm `largest` if theirs is larger; return the norm before that.

    The gradients are those of the global batch, so all ranks compute the same Euclidean norm and scale equally. With
    `largest` = 0 nothing is scaled.
    """
    # The checks in torch's get_total_norm take longer than the norms of a small network; the result is the same.
    norms = [torch.linalg.vector_norm(weights.grad) for weights in trained if weights.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if largest and torch.isfinite(norm):
        torch.nn.utils.clip_grads_with_norm_(trained, largest, norm)
    return float(norm)
