"""The loss by which a network imitates the probabilities of a teacher."""

from __future__ import annotations

import torch
from torch.nn import functional


def distillation_loss(scores: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return ``T^2 KL(p || q) = T^2 sum_c p_c (log p_c - log q_c)`` of each row, with q = softmax(scores / T).

    p are the probabilities of the teacher at the same temperature, ``softmax(z / T)`` of its scores z. The gradient by
    the scores is ``T (q - p)``. It is about as large as that of a cross-entropy for every T, because the factor T^2
    makes up for the 1 / T^2 of the temperature (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural
    network", arXiv:1503.02531, section 2). The loss is 0 if q = p.

    Parameters
    ----------
    scores : torch.Tensor, shape (rows, classes)
        Scores of the network that is trained.
    teacher : torch.Tensor, shape (rows, classes)
        p; rows that sum to 1.
    temperature : float
        T, 1 or more.

    Returns
    -------
    torch.Tensor, shape (rows,)
    """
    logs = functional.log_softmax(scores / temperature, 1)
    return temperature**2 * functional.kl_div(logs, teacher.to(scores.dtype), reduction="none").sum(1)
