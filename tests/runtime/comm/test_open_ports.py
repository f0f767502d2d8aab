from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from launch import run_ranks

from rcdp_hpc.runtime.comm import open_ports
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.comm.launcher import Launch
from rcdp_hpc.runtime.comm.launchers import OpenMPI
from rcdp_hpc.runtime.comm.open_ports import avoid_open_ports, describe_open_ports, exclude_tcp

MPIRUN = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "4"}
NODES = MPIRUN | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
SRUN = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "1"}
GLOO = {
    "HOROVOD_RANK": "0", "HOROVOD_SIZE": "2", "HOROVOD_GLOO_RENDEZVOUS_ADDR": "10.0.0.1", "HOROVOD_GLOO_IFACE": "ib0",
}  # fmt: skip
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost", "MASTER_PORT": "29500",
}  # fmt: skip
LOCAL = {"OMPI_MCA_btl": "^ofi,tcp", "NCCL_SOCKET_IFNAME": "lo"}


def added(env):
    """Return the variables that are added to the environment of a launcher."""
    after = dict(env)
    avoid_open_ports(detect(env), after)
    return {name: value for name, value in after.items() if env.get(name) != value}


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        ({}, {}),
        (MPIRUN, LOCAL),
        (SRUN, LOCAL),
        ({"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2"}, LOCAL),
        (NODES, {}),
        (SRUN | {"SLURM_STEP_NUM_NODES": "2"}, {}),
        # mpirun within a Slurm job: the variables of mpirun count, not those of its daemons.
        (NODES | SRUN, {}),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, {}),
        (GLOO, {}),
        (TORCHRUN, {"NCCL_SOCKET_IFNAME": "lo"}),
        (MPIRUN | {"OMPI_MCA_btl": "self,tcp"}, {"NCCL_SOCKET_IFNAME": "lo"}),
        (MPIRUN | {"NCCL_SOCKET_IFNAME": "eth1"}, {"OMPI_MCA_btl": "^ofi,tcp"}),
        (MPIRUN | {"OMPI_MCA_btl": "^openib"}, {"OMPI_MCA_btl": "^openib,tcp", "NCCL_SOCKET_IFNAME": "lo"}),
        (MPIRUN | {"OMPI_MCA_btl_tcp_if_include": "ib0"}, LOCAL),
    ],
)
def test_ranks_on_one_node_open_no_port_unless_the_user_has_settings(env, settings):
    assert added(env) == settings


@pytest.mark.parametrize(
    ("chosen", "used"),
    [
        ("", "^ofi,tcp"),
        ("^ofi", "^ofi,tcp"),
        ("^uct,ofi", "^uct,ofi,tcp"),
        ("^tcp", "^tcp"),
        ("^sm", "^sm"),
        ("^vader", "^vader"),
        ("self,tcp", "self,tcp"),
        ("self,sm", "self,sm"),
    ],
)
def test_the_choice_of_components(chosen, used):
    assert exclude_tcp(chosen) == used


def test_with_too_little_shared_memory_nothing_is_set(monkeypatch):
    monkeypatch.setattr(open_ports, "SHARED_MEMORY", Path("/nowhere"))
    assert added(MPIRUN) == {"NCCL_SOCKET_IFNAME": "lo"}
    monkeypatch.setattr(open_ports, "SHARED_MEMORY", Path("/"))
    monkeypatch.setattr(open_ports, "RANK_BYTES", 2**60)
    assert added(MPIRUN) == {"NCCL_SOCKET_IFNAME": "lo"}


def test_one_node_is_detected_from_the_launcher():
    assert not detect({}).on_one_node({})
    for env, one in (
        (MPIRUN, True),
        (NODES | {"SLURM_STEP_NUM_NODES": "1"}, False),
        ({"PMI_RANK": "0", "PMI_SIZE": "2", "SLURM_STEP_NUM_NODES": "1"}, True),
        (TORCHRUN, True),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "1"}, False),
    ):
        assert detect(env).on_one_node(env) == one


@pytest.mark.parametrize(
    ("env", "text"),
    [
        ({}, "one process opens no port; mpirun, horovodrun and torchrun listen on all interfaces"),
        (MPIRUN, "mpirun listens on all interfaces, the ranks open no port"),
        (MPIRUN | {"OMPI_MCA_btl": "self,sm"}, "the ranks open no port"),
        (MPIRUN | {"OMPI_MCA_btl": "self,tcp"}, "every rank, without a password: use it in private networks only"),
        (NODES, "every rank, without a password: use it in private networks only"),
        (SRUN, "the launcher listens, the ranks open no port"),
        (TORCHRUN, "torchrun listens on all interfaces and the ranks on loopback, without a password"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "1"}, "and the ranks on one interface, without a password"),
        (TORCHRUN | {"GLOO_SOCKET_IFNAME": "ib0"}, "and the ranks on ib0, without a password"),
        (GLOO, "horovodrun listens on all interfaces and the ranks on ib0, without a password"),
    ],
)
def test_doctor_describes_the_open_ports(env, text):
    found = describe_open_ports(detect(env), env)
    assert text in found
    assert found.endswith("(docs/security.md)")
    assert "\n" not in found


def test_describing_the_ports_changes_nothing(monkeypatch):
    before = dict(os.environ)
    describe_open_ports(Launch(OpenMPI(), 0, 4))
    assert dict(os.environ) == before


PORTS = """
import os, sys
from rcdp_hpc.runtime.comm.connect import connect
comm = connect()
comm.barrier()
folder = "/proc/self/fd"
inodes = {os.readlink(f"{folder}/{one}") for one in os.listdir(folder) if os.path.islink(f"{folder}/{one}")}
listening = 0
for table in ("/proc/net/tcp", "/proc/net/tcp6"):
    for line in open(table).readlines()[1:]:
        fields = line.split()
        listening += fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes
print("listening", listening, flush=True)
comm.barrier()
"""


@pytest.mark.mpi
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the ports are read from /proc/net")
@pytest.mark.parametrize(("env", "ports"), [({}, "0"), ({"OMPI_MCA_btl": "self,sm,tcp"}, "[1-9]")])
def test_real_ranks_listen_only_if_the_user_asks_for_tcp(env, ports):
    done = run_ranks(2, [sys.executable, "-c", PORTS], env=env)
    assert done.returncode == 0, done.stdout
    assert len(re.findall(rf"listening {ports}$", done.stdout, re.MULTILINE)) == 2, done.stdout
