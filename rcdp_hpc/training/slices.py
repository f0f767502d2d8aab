"""Slices: networks that ranks train apart, each on its own rows, and what they make together."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from rcdp_hpc.networks.ensemble import Ensemble, Weights
from rcdp_hpc.runtime.comm.base import Communicator


class Replicas:
    """Puts together what the ranks have trained.

    Parameters
    ----------
    kind : {"averaged", "ensemble"}
        One network, whose weights and running statistics are the ranks' mean, weighted by their rows; or all of them
        side by side.
    network : nn.Module
        This rank's.
    rows : int
        Training rows of this rank.
    comm : Communicator
        All ranks.

    Attributes
    ----------
    whole : nn.Module
        What the ranks' networks made together at the last call of `gather`.
    """

    def __init__(self, kind: str, network: nn.Module, rows: int, comm: Communicator) -> None:
        self.rows, self.comm = rows, comm
        members = [copy.deepcopy(network) for _ in range(comm.size if kind == "ensemble" else 1)]
        self.whole = Ensemble(members) if kind == "ensemble" else members[0]

    def gather(self, network: nn.Module) -> nn.Module:
        """Return `whole`, made anew of all ranks' networks. Collective."""
        own = {name: value.detach().cpu() for name, value in network.state_dict().items()}
        everyones = self.comm.allgather((self.rows, own))
        if isinstance(self.whole, Ensemble):
            for member, (_, weights) in zip(self.whole.members, everyones, strict=True):
                member.load_state_dict(weights)
        else:
            self.whole.load_state_dict(mean_weights(everyones))
        return self.whole


def mean_weights(slices: Sequence[tuple[int, Weights]]) -> Weights:
    """Return ``sum_r n_r w_r / sum_r n_r`` of networks trained on n_r rows, summed in float64; counts are the same."""
    total = sum(rows for rows, _ in slices)
    mean = {}
    for name, value in slices[0][1].items():
        if value.is_floating_point():
            added = sum(weights[name].double() * (rows / total) for rows, weights in slices)
            mean[name] = torch.as_tensor(added).to(value.dtype)
        else:
            mean[name] = value
    return mean
