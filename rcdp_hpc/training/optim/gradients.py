"""Penalties of the weights, and clipping of the summed gradients, the same on all ranks."""

from __future__ import annotations

from collections.abc import Sequence

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
def shrink(trained: Sequence[torch.Tensor], threshold: float) -> None:
    """Take the proximal step of an L1 penalty on weight matrices: ``w <- sign(w) max(|w| - threshold, 0)``.

    After an update with the learning rate r, the threshold of the penalty ``l1 sum|w|`` is ``r l1`` (the iterative
    soft thresholding of Daubechies, Defrise and De Mol 2004): entries become exactly 0, which a gradient of |w| does
    not achieve. The step is that of the Euclidean metric with every optimiser. Adam and its relatives scale the
    gradient of each weight, and a proximal step in their metric would scale the threshold alike (Yun et al. 2021);
    here the penalty is decoupled from them, as weight decay is in AdamW.
    """
    if not threshold:
        return
    for weights in trained:
        if weights.ndim > 1:
            weights.copy_(torch.nn.functional.softshrink(weights, threshold))


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
