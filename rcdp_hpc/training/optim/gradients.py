"""Penalties of the weights, and clipping of the summed gradients, the same on all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rcdp_hpc.training.optim.optimizers.on_device import rate_of


def add_penalty(trained: Sequence[torch.Tensor], l2: float) -> None:
    """Add the gradient of ``l2/2 sum w^2``; with `shrink` it is the elastic net (Zou and Hastie 2005).

    Only weight matrices are penalised, not biases or the scales of a normalisation. The gradient is added after the sum
    over ranks, so that it counts once for any number of ranks.
    """
    pairs = [(weights.grad, weights.detach()) for weights in trained if weights.ndim > 1 and weights.grad is not None]
    if l2 and pairs:
        torch._foreach_add_([gradient for gradient, _ in pairs], [values for _, values in pairs], alpha=l2)


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
    chosen = {id(weights) for weights in trained if weights.ndim > 1}
    for group in optimizer.param_groups:
        if matrices := [weights for weights in group["params"] if id(weights) in chosen]:
            rate = rate_of(group, getattr(optimizer, "found_inf", None), matrices[0].device)
            thresholds = _thresholds(rate * penalty, [optimizer.state.get(one, {}) for one in matrices], group)
            # Within the threshold w - w = 0, beyond it w - h or w + h.
            parts = torch._foreach_clamp_max(matrices, thresholds)
            torch._foreach_clamp_min_(parts, torch._foreach_neg(thresholds))
            torch._foreach_sub_(matrices, parts)


def _thresholds(
    product: torch.Tensor, states: Sequence[Mapping[str, Any]], group: Mapping[str, Any]
) -> list[torch.Tensor]:
    """Return r l1 (`product`) over what an optimiser divides the gradient of each weight by.

    That is 1 for a tensor without second moments.
    """
    thresholds = [product] * len(states)
    adaptive = [place for place, state in enumerate(states) if {"exp_avg_sq", "step"} <= state.keys()]
    if not (adaptive and {"betas", "eps"} <= group.keys()):
        return thresholds
    steps = torch.stack([torch.as_tensor(states[place]["step"]) for place in adaptive])
    # At least one step: a first step that changes nothing leaves the count at 0.
    corrections = 1 - group["betas"][1] ** steps.to(product.device, torch.float64).clamp_min(1)
    metrics = torch._foreach_div([states[place]["exp_avg_sq"] for place in adaptive], corrections.unbind())
    torch._foreach_sqrt_(metrics)
    torch._foreach_add_(metrics, group["eps"])
    torch._foreach_reciprocal_(metrics)
    torch._foreach_mul_(metrics, product)
    for place, metric in zip(adaptive, metrics, strict=True):
        thresholds[place] = metric
    return thresholds


def clip(trained: Sequence[torch.Tensor], largest: float) -> torch.Tensor:
    """Scale all gradients down, as one vector, to the norm `largest` if theirs is larger; return the norm before that.

    The gradients are those of the global batch, so all ranks compute the same Euclidean norm and scale equally. With
    `largest` = 0 nothing is scaled, and where the norm is not finite, gradients stay as they are. Nothing is read back
    from the device.

    Returns
    -------
    torch.Tensor, 0-dim
    """
    # The checks in torch's get_total_norm take longer than the norms of a small network; the result is the same.
    gradients = [weights.grad for weights in trained if weights.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if largest:
        factor = largest / (norm + 1e-6)
        # It is 0 or NaN for a norm that is not finite.
        torch._foreach_mul_(gradients, factor.masked_fill(~(factor > 0), 1).clamp_max(1))
    return norm
