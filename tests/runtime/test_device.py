"""The device that a rank requests, tested without a GPU."""

from __future__ import annotations

import os

import pytest
import torch
from settings import config_of

from rcdp_hpc.runtime.device import device, set_up_device

LOCAL = ("OMPI_COMM_WORLD_LOCAL_RANK", "HOROVOD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


@pytest.fixture(autouse=True)
def _of_no_launcher(monkeypatch):
    for name in LOCAL:
        monkeypatch.delenv(name, raising=False)


def of_rank(monkeypatch, visible: int, **local: str) -> str:
    """Return the device of a rank that sees `visible` devices, with the variables of its launcher in `local`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    with monkeypatch.context() as launched:
        for name, value in local.items():
            launched.setenv(name, value)
        return str(device())


@pytest.mark.parametrize("variable", LOCAL)
def test_one_device_for_each_rank_of_a_node(variable, monkeypatch):
    for rank in range(4):
        # On whole nodes every rank sees all devices; with --gpus-per-task=1 only one, as number 0.
        assert of_rank(monkeypatch, 4, **{variable: str(rank)}) == f"cuda:{rank}"
        assert of_rank(monkeypatch, 1, **{variable: str(rank)}) == "cuda:0"


def test_mpirun_within_a_job_counts_before_slurm(monkeypatch):
    """mpirun's daemons are the only tasks of Slurm, each with number 0 on its node."""
    assert of_rank(monkeypatch, 4, OMPI_COMM_WORLD_LOCAL_RANK="3", SLURM_LOCALID="0") == "cuda:3"


def test_torchrun_within_a_job_counts_before_slurm(monkeypatch):
    """One torchrun on each node is the only task of Slurm."""
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"}
    assert of_rank(monkeypatch, 4, **torchrun, SLURM_LOCALID="0") == "cuda:3"


def test_without_a_launcher_or_a_device(monkeypatch):
    assert of_rank(monkeypatch, 2) == "cuda:0"
    assert of_rank(monkeypatch, 0, SLURM_LOCALID="1") == "cpu"


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_repeats_to_the_bit_only_in_deterministic_mode(deterministic, monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    settings = config_of(parallel__deterministic=deterministic)
    try:
        set_up_device(torch.device("cpu"), settings)
        assert not torch.are_deterministic_algorithms_enabled()
        set_up_device(torch.device("cuda", 1), settings)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic
    finally:
        torch.use_deterministic_algorithms(False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    assert taken == [torch.device("cuda", 1)]
