"""Sizes of jobs on the nodes of a Slurm, with fakes of sinfo and scontrol."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rcdp_hpc.cluster.estimates import Measured, Work
from rcdp_hpc.cluster.partitions import Nodes, Partition, choose_partition, partition_of, read_partitions
from rcdp_hpc.cluster.scripts import DEFAULT_SITE
from rcdp_hpc.cluster.sizes import fit_job, site_lines
from rcdp_hpc.config import load_config
from rcdp_hpc.runtime.ram import MIB

GIB = 1024 * MIB
MEASURED = Measured(10.0, 0.5, 0.001, 0.01, 1000, 7.0, dict.fromkeys(("prepare", "search", "train", "evaluate"), 1), "")
LITTLE = Partition("little", (Nodes(2, 4, 4 * GIB),))
LARGE = Partition("large", (Nodes(100, 64, 256 * GIB),))


def work(*settings: str, rows: int = 4000, shape: tuple[int, ...] = (8, 8)) -> Work:
    return Work(load_config("digits", ["search.population=20", *settings]), MEASURED, shape, rows, 10)


def sized(stage: str, partition: Partition, *settings: str, **numbers) -> tuple[int, int]:
    asked = fit_job(work(*settings, **numbers), stage, [partition])
    assert not asked.obstacle
    return asked.plan.resources.ranks, asked.plan.resources.cores


def test_large_nodes_give_useful_sizes():
    found = [sized(stage, LARGE) for stage in ("prepare", "search", "train", "all")]
    assert found == [(1, 4), (16, 1), (4, 4), (4, 2)]


def test_no_job_requests_more_cores_than_a_node_has():
    assert sized("search", LITTLE) == (8, 1)
    assert sized("train", LITTLE) == (2, 4)
    assert sized("all", LITTLE) == (4, 2)
    # If the configuration does not fix the cores, they are those of a node.
    two = Partition("two", (Nodes(3, 2, 4 * GIB),))
    assert sized("prepare", two) == (1, 2)
    assert sized("train", two) == (3, 2)
    assert sized("train", two, "training.threads=1") == (4, 1)


def test_no_job_requests_more_memory_than_a_node_has():
    job = fit_job(work("search.train_rows=20000", "reservoir.nodes=1000"), "search", [LITTLE])
    ranks, memory = job.plan.resources.ranks, job.plan.memory_per_core * MIB
    assert 1 <= ranks < 8
    assert ranks == 2 * (4 * GIB // memory)


def test_a_rank_that_fits_nowhere_is_reported_with_what_to_do():
    job = fit_job(work(rows=3_000_000), "train", [LITTLE])
    assert "no node of partition little has more than 4.0 GiB" in job.obstacle
    assert "states.memory_mib" in job.obstacle
    line, reason = job.lines()
    assert line.startswith("# TRAIN_JOB=(--ntasks=1 ")
    assert reason.startswith("# cannot start: one rank needs ")


def test_threads_that_the_configuration_fixes_are_not_changed():
    job = fit_job(work("search.threads=8"), "search", [LITTLE])
    assert "a rank has 8 threads" in job.obstacle
    assert "search.threads" in job.obstacle


def test_limits_of_a_partition():
    assert sized("search", replace(LARGE, nodes=(Nodes(100, 4, 64 * GIB),), most_nodes=2)) == (8, 1)
    by_core = fit_job(work(), "search", [replace(LARGE, memory_per_core=100 * MIB)])
    assert "partition large gives 0.1 GiB a core at most" in by_core.obstacle
    # A job that exceeds the time limit can start, because it is requeued.
    line, more = fit_job(work("training.epochs=100000"), "train", [replace(LARGE, minutes=60)]).lines()
    assert line.endswith("--time=60)")
    assert "is requeued to continue" in more


def test_unknown_memory_is_not_requested():
    job = fit_job(work(), "search", [Partition("plain", (Nodes(1, 4, 0),))])
    assert job.lines() == ["SEARCH_JOB=(--ntasks=4 --cpus-per-task=1 --time=6)"]


def test_the_site_file_names_the_partition(tmp_path):
    site = tmp_path / "site.sh"
    site.write_text(f"{DEFAULT_SITE.read_text()}\nEVERY_JOB=(-p little)\nTRAIN_JOB=('--partition=large,little')\n")
    search, train = (fit_job(work(), stage, [LARGE, LITTLE], site) for stage in ("search", "train"))
    assert search.lines()[0].startswith("SEARCH_JOB=(--partition=little --ntasks=8 ")
    assert train.lines()[0].startswith("TRAIN_JOB=(--partition=large --ntasks=4 --cpus-per-task=4 ")
    text = "\n".join(site_lines([search, train]))
    assert "partition little of this Slurm: 2 nodes of 4 cores and 4.0 GiB" in text
    assert "partition large of this Slurm: 100 nodes" in text
    site.write_text("EVERY_JOB=(--partition=nowhere)\n")
    assert "names the partition nowhere" in fit_job(work(), "search", [LARGE], site).obstacle


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], ""),
        (["--partition=a,b"], "a"),
        (["-pa"], "a"),
        (["-p", "a"], "a"),
        (["--partition", "a", "--partition=b"], "b"),
        (["--account=p"], ""),
    ],
)
def test_partitions_in_options(options, name):
    assert partition_of(options) == name


DESCRIBED = """\
PartitionName=short Default=NO MaxNodes=4 MaxTime=1-02:03:00 MaxCPUsPerNode=UNLIMITED State=UP MaxMemPerNode=UNLIMITED
PartitionName=long Default=YES MaxNodes=UNLIMITED MaxTime=UNLIMITED MaxCPUsPerNode=32 State=UP MaxMemPerCPU=2000
PartitionName=old Default=NO MaxNodes=1 MaxTime=UNLIMITED State=DOWN MaxMemPerNode=UNLIMITED
PartitionName=empty Default=NO MaxNodes=1 MaxTime=UNLIMITED State=UP MaxMemPerNode=UNLIMITED
"""
ROWS = "short|2|4|4096\nshort|1|8|1\nlong|10|64|128000\nold|1|1|100"


def test_reading_partitions(fake):
    fake("sinfo", f"echo '{ROWS}'")
    fake("scontrol", f"echo '{DESCRIBED}'")
    long, short = read_partitions()
    assert long == Partition("long", (Nodes(10, 32, 128000 * MIB),), memory_per_core=2000 * MIB)
    assert short == Partition("short", (Nodes(2, 4, 4 * GIB), Nodes(1, 8, 0)), minutes=26 * 60 + 3, most_nodes=4)
    assert choose_partition([long, short], "") == long
    assert choose_partition([long, short], "short") == short
    assert choose_partition([long, short], "old") is None


def test_a_slurm_that_does_not_respond_is_a_warning(fake, caplog):
    fake("sinfo", "exit 0")
    fake("scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    assert read_partitions() == []
    assert "Unable to contact slurm controller" in caplog.text
