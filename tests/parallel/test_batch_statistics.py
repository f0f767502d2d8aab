"""Batch statistics of each rank: the running statistics stay those of all ranks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.parallel.single import SingleProcessEngine, single_process
from rcdp_hpc.parallel.synchronous import Synchronous


class Beside(SingleProcessEngine):
    """An engine that adds the sums of another rank, which ran before and is kept in `others`."""

    alone = False

    def __init__(self, others: list[torch.Tensor] | None = None) -> None:
        super().__init__()
        self.others = others or []
        self.sent: list[torch.Tensor] = []

    def allreduce(self, values, name):
        self.sent.append(values.clone())
        return values + self.others[len(self.sent) - 1] if self.others else values


class Layers(nn.Module):
    def __init__(self, parallel) -> None:
        super().__init__()
        self.maps = SyncBatchNorm(2, parallel, "maps", momentum=0.3)
        self.rows = SyncBatchNorm(3, parallel, "rows")

    def forward(self, maps, rows):
        return self.maps(maps), self.rows(rows)


def batches(*counts: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(sum(counts))
    return [
        (torch.randn(count, 2, 2, 3, generator=generator) * 2 + 1, torch.randn(count, 3, generator=generator) - 4)
        for count in counts
    ]


def statistics_of(network: nn.Module) -> list[torch.Tensor]:
    return [value for name, value in network.state_dict().items() if "running" in name or "largest" in name]


@pytest.mark.parametrize("counts", [(5, 3), (4, 0), (1, 1)])
def test_running_statistics_are_those_of_the_global_batch(counts):
    steps = [batches(*counts), batches(*counts)]
    whole = Layers(single_process())
    for step in steps:
        whole(*(torch.cat(values) for values in zip(*step, strict=True)))
    others: list[torch.Tensor] = []
    for rank in (1, 0):
        engine = Beside(others if rank == 0 else None)
        parallel = Synchronous(engine, "rank")
        network = Layers(parallel)
        parallel.wrap(torch.optim.SGD(network.parameters()), network)
        for step in steps:
            network(*step[rank])
            parallel.sum_gradients(None)
        others = engine.sent
    for found, expected in zip(statistics_of(network), statistics_of(whole), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_each_rank_normalises_by_its_own_rows_without_a_message():
    engine = Beside()
    norm = SyncBatchNorm(3, Synchronous(engine, "rank"), "n")
    rows = batches(6)[0][1]
    torch.testing.assert_close(norm(rows), nn.BatchNorm1d(3)(rows))
    assert not engine.sent
    assert set(norm.state_dict()) == {"weight", "bias", "running_mean", "running_var", "largest_batch"}


def test_batches_of_a_step_are_added_up():
    engine = Beside()
    parallel = Synchronous(engine, "rank")
    network, (first, second) = nn.Sequential(SyncBatchNorm(3, parallel, "n")), (batch[1] for batch in batches(4, 7))
    parallel.wrap(torch.optim.SGD(network.parameters()), network)
    network(first), network(second)
    parallel.sum_gradients(None)
    one = SyncBatchNorm(3, single_process(), "n")
    one(torch.cat([first, second]))
    torch.testing.assert_close(network[0].running_var, one.running_var)
    assert not network[0].batch_sums.any()


def test_one_rank_has_its_statistics_to_itself():
    assert Synchronous(SingleProcessEngine(), "rank").alone
    assert not Synchronous(SingleProcessEngine(), "rank").pools_statistics
