"""What is done to the summed gradients before a step: penalties and clipping, the same on all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def add_penalties(trained: Sequence[torch.Tensor], l1: float, l2: float) -> None:
    """Add the gradient of ``l1 sum|w| + l2/2 sum w^2`` (the elastic net; Zou and Hastie 2005).

    It is taken over weight matrices; biases and the scales of a normalisation are left alone. Added after the sum over
    ranks, it counts once however many ranks there are.
    """
    if not (l1 or l2):
        return
    for weights in trained:
        if weights.ndim > 1 and weights.grad is not None:
            values = weights.detach()
            weights.grad.add_(values.sign(), alpha=l1).add_(values, alpha=l2)


def clip(trained: Sequence[torch.Tensor], largest: float) -> float:
    """Return the Euclidean norm of all gradients as one vector, having scaled them down to `largest` where it is more.

    The gradients are those of the global batch, so all ranks find the same norm and scale alike. With `largest` = 0
    nothing is scaled.
    """
    # torch's own get_total_norm comes to the same, by way of checks that take longer than the norms of a small network.
    norms = [torch.linalg.vector_norm(weights.grad) for weights in trained if weights.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    if largest and torch.isfinite(norm):
        torch.nn.utils.clip_grads_with_norm_(trained, largest, norm)
    return float(norm)
