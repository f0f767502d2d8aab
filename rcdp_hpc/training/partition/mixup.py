"""Mixup: training samples are mixed in pairs, the same pairs whichever rank and batch they fall in."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.special import betaincinv

from rcdp_hpc.networks.augment import LAYER
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.training.partition.batches import BatchPlan

# Beta numbers are taken from so many equally likely ones.
QUANTILES = 4096


class Mixup:
    """Pairs of samples and their shares (Zhang, Cisse, Dauphin and Lopez-Paz, "mixup", 2018).

    ``x = m x_i + (1 - m) x_j,  y = m y_i + (1 - m) y_j``, m ~ Beta(a, a), the larger of m and 1 - m being sample i's:
    as pairs come either way round this changes no mixture, and the training accuracy stays that of a row's own class.

    The partner j is any sample of i's canonical slab, drawn, as m is, by (seed, epoch, i): a rank owns whole slabs, so
    that any number of ranks sees the same mixtures, in batches of any size.

    Parameters
    ----------
    alpha : float
        The a of the distribution, above 0.
    plan : BatchPlan
        Whose slabs the partners come from.
    """

    def __init__(self, alpha: float, plan: BatchPlan) -> None:
        self.alpha = alpha
        own = plan.own_slabs
        self.starts = torch.tensor([plan.slab_start(slab) for slab in range(own.start, own.stop + 1)])

    def pairs(self, draw: SampleRng, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the partner of each sample of a draw and the sample's own share.

        Parameters
        ----------
        draw : SampleRng
            Of the samples.
        places : torch.Tensor, shape (rows,), int64
            Where they lie in the slabs: their numbers, unless the slabs are cut anew.

        Returns
        -------
        partners : torch.Tensor, shape (rows,), int64
            Places.
        shares : torch.Tensor, shape (rows,), float32
            m, from 0.5 to 1.
        """
        starts = self.starts.to(places.device)
        slab = torch.searchsorted(starts, places, right=True) - 1
        first, length = starts[slab], starts[slab + 1] - starts[slab]
        chance = draw.uniform(2, LAYER + 1)
        # In float64, so that a slab of any size is reached evenly and never left.
        partners = first + (chance[:, 0].double() * length).long()
        shares = _upper_half(self.alpha).to(places.device)[(chance[:, 1] * QUANTILES).long()]
        return partners, shares


@lru_cache(maxsize=4)
def _upper_half(alpha: float) -> torch.Tensor:
    """Return equally likely values of max(m, 1 - m), m ~ Beta(alpha, alpha), shape (QUANTILES,)."""
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    values = betaincinv(alpha, alpha, levels)
    return torch.from_numpy(np.maximum(values, 1 - values)).float()
