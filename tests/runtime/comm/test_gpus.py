"""Which ranks share a GPU, with fakes of torch's GPUs."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from rcdp_hpc.config import ParallelSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.parallel.choose import strategy_for
from rcdp_hpc.runtime.comm import gpus
from rcdp_hpc.runtime.comm.gpus import RankGPU, gpu_of_rank, refuse_shared_gpus, report_shared_gpus, sharing_text
from rcdp_hpc.runtime.comm.launchers import OpenMPI, Slurm, Torchrun
from tests.parallel.thread_ranks import on_ranks

H100 = "NVIDIA H100"


def node(host: str, *identities: str) -> list[RankGPU]:
    return [RankGPU(host, identity, H100 if identity else "") for identity in identities]


@pytest.fixture
def fake_gpus(monkeypatch):
    """Let torch see GPUs with these identifiers."""

    def see(*identities: str | None) -> None:
        def properties(index):
            facts = {"name": H100} if identities[index] is None else {"name": H100, "uuid": identities[index]}
            return SimpleNamespace(**facts)

        monkeypatch.setattr(torch.cuda, "get_device_properties", properties)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus.socket, "gethostname", lambda: "n1")
    return see


def test_the_identity_is_the_drivers_or_the_number(fake_gpus, monkeypatch):
    fake_gpus("a", None, "c")
    assert gpu_of_rank(torch.device("cpu")) == RankGPU("n1")
    assert gpu_of_rank(torch.device("cuda", 0)) == RankGPU("n1", "a", H100)
    assert gpu_of_rank(torch.device("cuda", 1)) == RankGPU("n1", "number 1", H100)
    # Instances of one GPU, which may all have its identifier, are separate GPUs.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-7,MIG-8")
    assert [gpu_of_rank(torch.device("cuda", index)).identity for index in range(3)] == ["MIG-7", "MIG-8", "c"]


def test_a_gpu_for_each_rank_or_none_at_all_is_accepted():
    refuse_shared_gpus([*node("n1", "a", "b"), *node("n2", "a", "b")])
    refuse_shared_gpus(node("n1", "", "", ""))
    assert sharing_text(node("n1", "a", "b")) == ""


@pytest.mark.parametrize(
    ("launcher", "option"),
    [
        (OpenMPI(), "mpirun --map-by ppr:2:node"),
        (Slurm(), "srun --ntasks-per-node=2 --gpus-per-node=2"),
        (Torchrun(), "torchrun --nproc-per-node 2"),
        (SimpleNamespace(ranks_option=""), "one rank for each GPU"),
    ],
)
def test_shared_gpus_are_refused_with_the_numbers_and_the_way_out(launcher, option, monkeypatch):
    monkeypatch.setattr(gpus, "detect", lambda: SimpleNamespace(launcher=launcher))
    shared = [*node("n1", "a", "b", "a", "b"), *node("n2", "c", "c")]
    with pytest.raises(InputError) as caught:
        refuse_shared_gpus(shared)
    assert str(caught.value) == (
        "4 ranks train on 2 GPUs of host n1: ranks 0, 2 share NVIDIA H100 (a); ranks 1, 3 share NVIDIA H100 (b); "
        "likewise on 1 other host. Ranks that sum gradients need a GPU each: NCCL refuses others. Start one rank for "
        f"each GPU ({option}), or train on the CPUs: training.device = 'cpu'."
    )
    assert caught.value.agreed
    assert sharing_text(shared) == "4 ranks share 2 GPUs of host n1"


def test_many_shared_gpus_are_not_all_named():
    with pytest.raises(InputError, match=r"ranks 3, 11 share NVIDIA H100 \(3\); 4 more GPUs are shared\. Ranks"):
        refuse_shared_gpus(node("n1", *[str(rank % 8) for rank in range(16)]))


def test_ranks_without_a_gpu_among_others_are_refused():
    with pytest.raises(InputError, match=r"2 of 4 ranks train on a GPU, but ranks 1, 3 \(host n1\) has none"):
        refuse_shared_gpus(node("n1", "a", "", "b", ""))


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_training_is_refused_before_its_engine_sends_anything(engine, fake_gpus, monkeypatch):
    fake_gpus("a")
    started = []
    monkeypatch.setattr("rcdp_hpc.parallel.choose.choose_engine", lambda *_: started.append(1))

    def work(comm):
        with pytest.raises(InputError, match=r"2 ranks train on 1 GPU of host n1: ranks 0, 1 share NVIDIA H100 \(a\)"):
            strategy_for(comm, 60, ParallelSection(engine=engine), torch.device("cuda", 0))

    on_ranks(2, work)
    assert not started
    assert "NCCL_DEBUG" not in os.environ


def test_ranks_that_may_share_a_gpu_are_warned_once(fake_gpus, caplog):
    fake_gpus("a")
    on_ranks(3, lambda comm: report_shared_gpus(comm, torch.device("cuda", 0), "evaluate candidates"))
    (line,) = caplog.messages
    assert line.startswith("3 ranks share 1 GPU of host n1, take turns while they evaluate candidates, and divide its")
    on_ranks(3, lambda comm: report_shared_gpus(comm, torch.device("cpu"), "evaluate candidates"))
    assert len(caplog.messages) == 1
