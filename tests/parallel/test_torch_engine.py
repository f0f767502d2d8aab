"""The engine on torch.distributed, with ranks that are threads of this process."""

from __future__ import annotations

import copy
import ipaddress
import os
import socket
import time

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from rcdp_hpc.config import ParallelSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.parallel import torch_distributed
from rcdp_hpc.parallel.local_sgd import LocalSGD
from rcdp_hpc.parallel.synchronous import Synchronous
from rcdp_hpc.parallel.torch_distributed import TorchEngine, buckets
from rcdp_hpc.runtime.comm import interfaces, torch_world
from rcdp_hpc.runtime.comm.interfaces import GLOO_INTERFACE
from rcdp_hpc.runtime.comm.lost_ranks import LostRankError, is_lost_rank, lost_rank_text
from rcdp_hpc.runtime.comm.torch_world import start_torch
from tests.parallel.thread_ranks import on_ranks

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_interface(monkeypatch):
    # Ranks that are threads share the environment, which each of them sets while it starts.
    monkeypatch.setenv(GLOO_INTERFACE, next(one.name for one in interfaces._interfaces() if one.is_loopback))


NETWORK = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


def network() -> nn.Module:
    return copy.deepcopy(NETWORK)


def rows_of(rank: int) -> torch.Tensor:
    return torch.randn(4 + rank, 3, generator=torch.Generator().manual_seed(rank))


def gradients(model: nn.Module, batches: list[torch.Tensor]) -> list[torch.Tensor]:
    for batch in batches:
        model(batch).square().sum().backward()
    return [weights.grad for weights in model.parameters()]


@pytest.mark.parametrize(("ranks", "fast"), [(2, False), (3, False), (3, True)])
@pytest.mark.parametrize("passes", [1, 2])
def test_gradients_are_the_sums_over_ranks(ranks, fast, passes, monkeypatch):
    monkeypatch.setattr(torch_distributed, "BUCKET_BYTES", 100)  # several messages

    def work(comm):
        comm.has_fast_allreduce = fast
        engine = TorchEngine.start(comm, 60)
        model = network()
        optimizer = engine.wrap(torch.optim.SGD(model.parameters(), 0.1), model)
        engine.expect_passes(optimizer, passes)
        gradients(model, [rows_of(comm.rank)] * passes)
        engine.sum_gradients(optimizer)
        sums = [weights.grad.clone() for weights in model.parameters()]
        engine.update(optimizer)
        sent = engine.bytes_sent
        engine.close()
        return sums, [weights.detach() for weights in model.parameters()], sent

    found = on_ranks(ranks, work)
    separate = [gradients(network(), [rows_of(rank)] * passes) for rank in range(ranks)]
    expected = [sum(parts) for parts in zip(*separate, strict=True)]
    for sums, weights, sent in found:
        torch.testing.assert_close(sums, expected, rtol=1e-6, atol=1e-6)
        assert all(torch.equal(one, other) for one, other in zip(sums, found[0][0], strict=True))
        assert all(torch.equal(one, other) for one, other in zip(weights, found[0][1], strict=True))
        assert sent == pytest.approx(2 * (ranks - 1) / ranks * 4 * (15 + 5 + 10 + 2))


@pytest.mark.parametrize("mpi_bytes", [0, 2**20])
def test_weights_that_the_rows_of_a_rank_do_not_use_get_the_gradients_of_the_others(mpi_bytes, monkeypatch):
    monkeypatch.setattr(torch_distributed, "MPI_BYTES", mpi_bytes)

    def work(comm):
        engine = TorchEngine.start(comm, 60)
        model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2)])
        optimizer = engine.wrap(torch.optim.SGD(model.parameters(), 0.1), model)
        # Each rank uses another layer, and none the last.
        model[comm.rank](torch.ones(1, 3)).sum().backward()
        engine.sum_gradients(optimizer)
        engine.close()
        return [layer.weight.grad.sum().item() for layer in model]

    assert on_ranks(2, work) == [[6.0, 6.0, 0.0]] * 2


def test_an_engine_that_is_closed_says_so():
    def work(comm):
        engine = TorchEngine.start(comm, 60)
        engine.close()
        engine.close()
        with pytest.raises(InputError, match="is closed: start an engine again"):
            engine._allreduce(torch.ones(1), "late")

    on_ranks(2, work)


def test_compressed_gradients_are_sums_of_float16():
    def work(comm):
        engine = TorchEngine.start(comm, 60, ParallelSection(compression="fp16"))
        model = network()
        optimizer = engine.wrap(torch.optim.SGD(model.parameters(), 0.1), model)
        gradients(model, [rows_of(comm.rank)])
        engine.sum_gradients(optimizer)
        return [weights.grad for weights in model.parameters()], engine.bytes_sent

    separate = [gradients(network(), [rows_of(rank)]) for rank in range(2)]
    expected = [(first.half() + second.half()).float() for first, second in zip(*separate, strict=True)]
    for sums, sent in on_ranks(2, work):
        assert all(torch.equal(one, other) for one, other in zip(sums, expected, strict=True))
        assert sent == 2 * 32


@pytest.mark.parametrize("fast", [False, True])
def test_gradients_flow_through_sums_of_batch_statistics(fast):
    def work(comm):
        comm.has_fast_allreduce = fast
        engine = TorchEngine.start(comm, 60)
        x = torch.full((2,), float(comm.rank + 1), requires_grad=True)
        total = Synchronous(engine).sum(x, "n")
        (total.square().sum() * (comm.rank + 1)).backward()
        return total.detach(), x.grad, x.detach()

    for rank, (total, gradient, x) in enumerate(on_ranks(2, work)):
        assert total.tolist() == [3.0, 3.0]
        assert gradient.tolist() == [2 * 3.0 * (1 + 2)] * 2  # the total loss is the sum over ranks
        assert x.tolist() == [rank + 1.0] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("counts", [[[1, 2, 0], [0, 0, 3], [2, 2, 2]], [[0, 0, 0], [0, 0, 0], [0, 4, 0]]])
def test_rows_are_exchanged(counts, dtype):
    sent = [torch.randn(sum(row), 3).to(dtype) for row in counts]

    def work(comm):
        engine = TorchEngine.start(comm, 60)
        return engine.exchange(sent[comm.rank], np.array(counts[comm.rank]))

    for rank, received in enumerate(on_ranks(3, work)):
        parts = [sent[source].split(counts[source])[rank] for source in range(3)]
        assert torch.equal(received, torch.cat(parts))


def test_all_ranks_get_the_model_of_rank_0():
    def work(comm):
        engine = TorchEngine.start(comm, 60)
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))  # float32, and a counter of int64
        model[0].weight.data.fill_(comm.rank + 2.0)
        model[1].num_batches_tracked += comm.rank + 5
        engine.broadcast_model(model)
        return model.state_dict()

    found = on_ranks(3, work)
    assert found[2]["0.weight"].tolist() == [[2.0, 2.0]] * 3
    assert found[2]["1.num_batches_tracked"] == 5
    for state in found:
        assert all(torch.equal(state[name], found[0][name]) for name in state)


def test_local_sgd_averages_by_rows():
    def work(comm):
        strategy = LocalSGD(TorchEngine.start(comm, 60))
        model = nn.Linear(1, 1)
        optimizer = strategy.wrap(torch.optim.SGD(model.parameters(), 1.0), model)
        with torch.no_grad():
            model.weight.fill_(comm.rank + 1.0)
            model.bias.fill_(0.0)
        strategy.average(model, optimizer, rows=10 * (comm.rank + 1))
        return model.weight.item()

    assert on_ranks(2, work) == [pytest.approx((1 * 10 + 2 * 20) / 30)] * 2


def test_only_the_chosen_interface_listens():
    before = {port for _, port in _listening()}

    def work(comm):
        world = start_torch(comm, 60, CPU)
        comm.barrier()
        found = _listening()
        comm.barrier()
        world.close()
        return found

    opened = [(address, port) for address, port in on_ranks(2, work)[0] if port not in before]
    assert opened
    assert {address for address, _ in opened} == {"127.0.0.1"}


def _listening() -> list[tuple[str, int]]:
    connections = psutil.Process().net_connections("inet")
    return [tuple(one.laddr) for one in connections if one.status == psutil.CONN_LISTEN]


def test_an_interface_that_does_not_exist_is_refused_on_all_ranks(monkeypatch):
    monkeypatch.setenv(GLOO_INTERFACE, "nowhere0")

    def work(comm):
        with pytest.raises(InputError, match=r"GLOO_SOCKET_IFNAME names the interface 'nowhere0'.*it has lo"):
            start_torch(comm, 60, CPU)

    on_ranks(2, work)


def test_a_failing_connection_says_what_to_do(monkeypatch):
    interface = interfaces.Interface("ib0", "10.1.0.7", "10.1.0.0/16")
    error = torch_world._unconnected(interface, RuntimeError("Connection refused\nat ..."))
    assert "through the interface ib0 (10.1.0.7): Connection refused. Set GLOO_SOCKET_IFNAME" in str(error)


def test_the_environment_stays_as_it_was(monkeypatch):
    monkeypatch.delenv(GLOO_INTERFACE)
    on_ranks(1, lambda comm: start_torch(comm, 60, CPU).close())
    assert GLOO_INTERFACE not in os.environ


def test_a_lost_rank_is_recognised(monkeypatch):
    monkeypatch.setattr(torch_world, "WAIT_SECONDS", 0.05)

    def work(comm):
        world = start_torch(comm, 60, CPU)
        if comm.rank == 1:
            world._host.shutdown()
            world._host = None
            return None
        with pytest.raises(LostRankError) as caught:
            world.sum_in_place([torch.ones(3)])
        return lost_rank_text(caught.value, comm, 60)

    text = on_ranks(2, work)[0]
    assert text.startswith("rank 0 of 2 has lost another rank")
    assert "torch.distributed (Gloo) reports:" in text


def test_a_late_rank_is_reported_by_the_communicator(monkeypatch):
    """The roll call names missing ranks; while there are none, the wait goes on."""
    monkeypatch.setattr(torch_world, "WAIT_SECONDS", 0.05)

    def work(comm):
        asked = []
        comm.report_missing_ranks = asked.append
        world = start_torch(comm, 60, CPU)
        world.stall_seconds = 0.2
        comm.barrier()
        if comm.rank == 1:
            time.sleep(1)
        values = torch.ones(2)
        world.sum_in_place([values])
        assert values.tolist() == [2.0, 2.0]
        return asked

    late, _ = on_ranks(2, work)
    assert late
    assert set(late) == {0.2}


def test_other_errors_are_not_lost_ranks():
    assert not is_lost_rank(RuntimeError("Connection closed by peer"))
    assert is_lost_rank(LostRankError("Gloo", "Connection closed by peer"))


def test_buckets_depend_on_shapes_only():
    a, b, c = torch.zeros(4), torch.zeros(5), torch.zeros(2, dtype=torch.float64)
    huge = torch.zeros(100)
    found = buckets([a, c, b, huge, a], 40)
    assert [[len(values) for values in group] for group in found] == [[4, 5], [2], [100], [4]]


def node(host: str, *found: tuple[str, str], own: str = "", wanted: str = "") -> interfaces.Node:
    parts = []
    for name, address in found:
        one = ipaddress.IPv4Interface(address)
        parts.append(interfaces.Interface(name, str(one.ip), str(one.network)))
    return interfaces.Node((host,), own, tuple(parts), wanted)


LO = ("lo", "127.0.0.1/8")


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        pytest.param([node("a", LO, ("e0", "10.0.0.1/24"))] * 2, ["lo", "lo"], id="one node"),
        pytest.param(
            [node("a", LO, ("docker0", "172.17.0.1/16"), ("e0", "10.0.0.1/24")),
             node("b", LO, ("docker0", "172.17.0.1/16"), ("e1", "10.0.0.2/24"))],
            ["e0", "e1"], id="bridges connect nothing",
        ),
        pytest.param(
            [node("a", LO, ("pub", "8.8.8.1/24"), ("ib0", "10.1.0.1/16")),
             node("b", LO, ("pub", "8.8.8.2/24"), ("ib0", "10.1.0.2/16"))],
            ["ib0", "ib0"], id="private before public",
        ),
        pytest.param(
            [node("a", LO, ("e0", "10.0.0.1/24"), ("ib0", "10.1.0.1/16"), own="10.1.0.1"),
             node("b", LO, ("e0", "10.0.0.2/24"), ("ib0", "10.1.0.2/16"), own="10.1.0.2")],
            ["ib0", "ib0"], id="the network of the host names",
        ),
        pytest.param(
            [node("a", LO, ("e0", "10.0.0.1/24"), wanted="e0"), node("a", LO, ("e0", "10.0.0.1/24"), wanted="e0")],
            ["e0", "e0"], id="the user's choice",
        ),
        pytest.param(
            [node("a", LO, ("e0", "10.0.1.1/24"), own="10.0.1.1"),
             node("b", LO, ("e0", "10.0.2.1/24"), own="10.0.2.1")],
            ["e0", "e0"], id="routed",
        ),
    ],
)  # fmt: skip
def test_the_interface_of_each_rank(nodes, names):
    assert [interfaces.choose_interface(nodes, rank).name for rank in range(len(nodes))] == names


def test_nodes_without_a_common_network_are_refused():
    nodes = [node("a", LO, ("e0", "10.0.1.1/24")), node("b", LO, ("e0", "10.0.2.1/24"))]
    with pytest.raises(InputError, match=r"host b and the hosts of other ranks have no network in common: set GLOO_"):
        interfaces.choose_interface(nodes, 1)


def test_this_node_has_loopback():
    here = interfaces.this_node({})
    assert here.identity[0] == socket.gethostname()
    assert any(one.is_loopback for one in here.interfaces)
