"""Mixup: training samples are mixed in pairs; the pairs do not depend on ranks or batches."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.special import betaincinv

from rcdp_hpc.networks.augment import LAYER
from rcdp_hpc.networks.by_device import ByDevice
from rcdp_hpc.networks.sample_rng import Draw, SampleRng
from rcdp_hpc.training.partition.batches import BatchPlan

# Number of equally likely values that replace the Beta distribution.
QUANTILES = 4096
# The numbers of a sample: its partner and its share.
DRAW = Draw(LAYER + 1, 2)


class Mixup:
    """Pairs of samples and their shares (Zhang, Cisse, Dauphin and Lopez-Paz, "mixup", 2018).

    ``x = m x_i + (1 - m) x_j,  y = m y_i + (1 - m) y_j`` with m ~ Beta(a, a). Sample i gets the larger of m and 1 - m.
    Since pairs occur in both orders, this leaves the distribution of the mixtures as it is, and the class of sample i
    decides the training accuracy.

    The partner j is a random sample of i's partition. Partner and m are drawn by (seed, epoch, i). A rank has whole
    partitions, so the mixtures are the same for any number of ranks and any batch size.

    Parameters
    ----------
    alpha : float
        The parameter a of the distribution, above 0.
    plan : BatchPlan
        The partitions.
    """

    def __init__(self, alpha: float, plan: BatchPlan) -> None:
        local = plan.local_partitions
        starts = torch.tensor([plan.partition_start(partition) for partition in range(local.start, local.stop + 1)])
        # The bounds between the partitions of this rank, and the first row and the length of each of them.
        self._tables = ByDevice(starts[1:-1].clone(), starts[:-1].clone(), starts.diff().double(), _upper_half(alpha))

    def pairs(self, draw: SampleRng, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the partner and the share of each sample.

        Parameters
        ----------
        draw : SampleRng
            Random numbers of the samples.
        positions : torch.Tensor, shape (rows,), int64
            Positions of the samples in the order of partitions. They are the indices of the samples, unless rows were
            redistributed over the partitions.

        Returns
        -------
        partners : torch.Tensor, shape (rows,), int64
            Positions of the partners.
        shares : torch.Tensor, shape (rows,), float32
            The share m of each sample itself, from 0.5 to 1.
        """
        bounds, first, length, upper_half = self._tables.on(positions.device)
        partition = torch.bucketize(positions, bounds, right=True)
        chance = draw.uniform(DRAW.width, DRAW.layer)
        # In float64, so that all rows of a large partition are equally likely, and no other is drawn.
        partners = first[partition] + (chance[:, 0] * length[partition]).long()
        return partners, upper_half[(chance[:, 1] * QUANTILES).long()]


@lru_cache(maxsize=4)
def _upper_half(alpha: float) -> torch.Tensor:
    """Return equally likely values of max(m, 1 - m) with m ~ Beta(alpha, alpha), shape (QUANTILES,)."""
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    values = betaincinv(alpha, alpha, levels)
    return torch.from_numpy(np.maximum(values, 1 - values)).float()
