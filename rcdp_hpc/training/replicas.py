"""Independent replicas: each rank trains a network on its own rows; they are combined for validation and the model."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.ensemble import Ensemble, Weights
from rcdp_hpc.runtime.comm.base import Communicator


class Replicas:
    """Combines the networks of all ranks.

    Parameters
    ----------
    kind : {"averaged", "ensemble"}
        Whether the combined model is one network, whose weights and running statistics are the mean over ranks,
        weighted by their rows, or an ensemble of all networks.
    network : Network
        This rank's network.
    rows : int
        Training rows of this rank.
    comm : Communicator
        All ranks.

    Attributes
    ----------
    combined : Network
        The combined model as of the last call of `gather`.
    """

    def __init__(self, kind: str, network: Network, rows: int, comm: Communicator) -> None:
        self.rows = rows
        self.comm = comm
        members = [copy.deepcopy(network) for _ in range(comm.size if kind == "ensemble" else 1)]
        self.combined = Ensemble(members) if kind == "ensemble" else members[0]

    def gather(self, network: Network) -> Network:
        """Update `combined` from the networks of all ranks and return it. Collective."""
        state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
        states = self.comm.allgather((self.rows, state))
        if isinstance(self.combined, Ensemble):
            for member, (_, weights) in zip(self.combined.members, states, strict=True):
                member.load_state_dict(weights)
        else:
            self.combined.load_state_dict(mean_weights(states))
        return self.combined


def mean_weights(replicas: Sequence[tuple[int, Weights]]) -> Weights:
    """Return the mean of the weights of networks, weighted by their training rows: ``sum_r n_r w_r / sum_r n_r``.

    Parameters
    ----------
    replicas : sequence of (int, dict)
        Rows n_r and weights w_r of each network. Sums are float64. Integer values, which are counters, are equal in all
        networks and copied from the first.
    """
    total = sum(rows for rows, _ in replicas)
    mean = {}
    for name, value in replicas[0][1].items():
        if value.is_floating_point():
            weighted_sum = sum(weights[name].double() * (rows / total) for rows, weights in replicas)
            mean[name] = torch.as_tensor(weighted_sum).to(value.dtype)
        else:
            mean[name] = value
    return mean
