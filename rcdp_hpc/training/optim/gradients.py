"""Penalties and clipping of the summed gradients, the same on all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def add_penalties(trained: Sequence[torch.Tensor], l1: float, l2: float) -> None:
    """Add the gradient of ``l1 sum|w| + l2/2 sum w^2`` (the elastic net; Zou and Hastie 2005).

    Only weight matrices are penalised, not biases or the scales of a normalisation. The gradient is added after the sum
    over ranks, so that it counts once for any number of ranks.
    """
    if not (l1 or l2):
        return
    for weights in trained:
        if weights.ndim > 1 and weights.grad is not None:
            values = weights.detach()
            weights.grad.add_(values.sign(), alpha=l1).add_(values, alpha=l2)


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
