"""Resources of ranks on Slurm: threads, devices, logs."""

from __future__ import annotations

import json
import sys

import pytest
from launch import REPOSITORY
from slurm.jobs import Slurm, site

pytestmark = pytest.mark.slurm
NODES = ("--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--time=10")


def probed(slurm: Slurm, *options: str) -> tuple[str, list[dict]]:
    """Submit a job whose ranks print their resources; return its number and the resources."""
    settings = site(slurm.folder, RCDP_COMMAND=f"'{sys.executable} {REPOSITORY}/tests/slurm/probe.py'")
    job = slurm.sbatch("search.sbatch", *NODES, *options, RCDP_SITE=str(settings))
    slurm.done(job)
    return job, json.loads((slurm.folder / "run/probe.json").read_text())


def device_on_node(rank: dict) -> str:
    return rank["visible"][rank["device"]]


def test_each_task_sees_one_device_number_0(slurm):
    job, ranks = probed(slurm, "--cpus-per-task=2", "--gpus-per-task=1")
    assert [rank["device"] for rank in ranks] == [0] * 4
    assert {(rank["host"], device_on_node(rank)) for rank in ranks} == {
        (node, device) for node in ("c1", "c2") for device in "01"
    }
    assert {(rank["cpus_per_task"], rank["omp"]) for rank in ranks} == {("2", "2")}
    # Each rank except rank 0 has a separate log, and a requeue appends to all.
    slurm.call("scontrol", "requeue", job)
    slurm.wait_for(lambda: slurm.job(job)["Restarts"] == "1", "the requeue")
    slurm.done(job)
    assert (slurm.folder / f"rcdp-search-{job}.log").read_text().count("rank 0 of 4 was here\n") == 2
    for rank in (1, 2, 3):
        log = slurm.folder / f"run/logs/search-{job}-rank{rank}.log"
        assert log.read_text() == 2 * f"rank {rank} of 4 was here\n"


def test_on_whole_nodes_each_rank_uses_the_device_of_its_local_rank(slurm):
    _, ranks = probed(slurm, "--cpus-per-task=1", "--gpus-per-node=2", "--exclusive")
    assert [rank["visible"] for rank in ranks] == [["0", "1"]] * 4
    assert {(rank["host"], device_on_node(rank)) for rank in ranks} == {
        (node, device) for node in ("c1", "c2") for device in "01"
    }
    assert {(rank["cpus_per_task"], rank["omp"], rank["threads"]) for rank in ranks} == {("1", "1", 1)}
