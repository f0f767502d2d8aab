"""The weights that a network keeps by their magnitude, and how many it keeps at each step."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def sparsity_at(step: int, steps: int, final: float) -> float:
    """Return the share of weights that are removed after a step: ``s_t = s_f (1 - (1 - t / T)^3)``.

    The gradual schedule of Zhu and Gupta ("To prune, or not to prune", 2017, with s_0 = 0): many weights are removed
    while the network has many, few at the end.

    Parameters
    ----------
    step, steps : int
        t and T; from t = T on, and with T = 0, the share is s_f.
    final : float
        s_f.
    """
    if step >= steps:
        return final
    return final * (1 - (1 - step / steps) ** 3)


def largest_weights(weights: Mapping[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Return which entries of matrices are among the `count` most important ones of all of them.

    Entries of different matrices are compared by ``w^2 / sum of v^2 over the entries v of the matrix with v^2 >= w^2``
    (layer-adaptive magnitudes; Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", 2021): within a
    matrix this is the order of the magnitudes, and the largest entry of each matrix has the value 1, so that no matrix
    is emptied while others are full. Entries that are 0 come last. Equal values are taken in the order of the tensors.

    Parameters
    ----------
    weights : mapping of str to torch.Tensor
        Matrices and kernels by name.
    count : int
        Number of entries to keep.

    Returns
    -------
    dict of str to torch.Tensor
        For each tensor a tensor of the same shape and device, bool: True for an entry that is kept.
    """
    # On the host: sums of a GPU over all entries so far are not the same bits each time.
    parts = [_relative_squares(values.detach().flatten().cpu()) for values in weights.values()]
    order = torch.argsort(torch.cat(parts), descending=True, stable=True)
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[:count]] = True
    masks = kept.split([len(part) for part in parts])
    return {
        name: mask.view(values.shape).to(values.device)
        for (name, values), mask in zip(weights.items(), masks, strict=True)
    }


def _relative_squares(values: torch.Tensor) -> torch.Tensor:
    """Return the square of each entry over the sum of the squares that are not smaller, float64."""
    squares = values.double().square()
    ordered, order = torch.sort(squares, descending=True, stable=True)
    sums = ordered.cumsum(0)
    result = torch.empty_like(squares)
    result[order] = torch.where(ordered > 0, ordered / sums.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    return result
