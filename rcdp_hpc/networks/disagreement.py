"""How much the members of an ensemble disagree about a row."""

from __future__ import annotations

import torch


def mutual_information(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the mutual information of class and member, in nats.

    ``H(mean_m p_m) - mean_m H(p_m)`` with the entropy ``H(p) = -sum_c p_c log p_c``, which is also the mean over the
    members of the divergence KL(p_m || mean p). It is 0 if all members have the same probabilities, whether they are
    certain or not, and at most log(classes) and log(members). Source: Houlsby et al., "Bayesian active learning for
    classification and preference learning", 2011; for ensembles Lakshminarayanan et al., "Simple and scalable
    predictive uncertainty estimation using deep ensembles", 2017, as the sum instead of the mean of the divergences.

    Parameters
    ----------
    probabilities : torch.Tensor, shape (members, rows, classes)

    Returns
    -------
    torch.Tensor, shape (rows,), float32
    """
    # Differences of nearly equal members are below the digits of float32.
    each = probabilities.double()
    spread = torch.special.entr(each.mean(0)).sum(1) - torch.special.entr(each).sum(2).mean(0)
    return spread.clamp_min(0).float()
