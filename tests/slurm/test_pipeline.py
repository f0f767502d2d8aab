"""The job scripts on two nodes: as a chain, in one job, and as single jobs."""

from __future__ import annotations

import re

import pytest
from launch import rcdp

from rcdp_hpc.comparison.results import read_comparison
from rcdp_hpc.config import load_config

pytestmark = pytest.mark.slurm
ON_ONE = ("--nodes=1", "--ntasks=2", "--cpus-per-task=1", "--time=10")
QUICKLY = [f"--sbatch={option}" for option in ON_ONE]


def test_a_chain_over_two_nodes(slurm):
    config = slurm.config()
    said = slurm.call("slurm/chain.sh", config, "run", "--time=10", "--nodes=2", "--ntasks=4", "--cpus-per-task=1")
    prepare, search, train = re.findall(r"job (\d+)", said)
    for job in (prepare, search, train):
        slurm.done(job)
    assert "test accuracy" in (slurm.folder / f"rcdp-train-{train}.log").read_text()
    assert slurm.state("prepare")["ranks"] == 1
    assert slurm.state("search")["ranks"] == slurm.state("train")["ranks"] == 4
    assert slurm.job(train)["NodeList"] == "c[1-2]"
    ranks = {line["timing"]["rank"] for line in slurm.lines("search/history.jsonl")}
    assert ranks - {None} == {0, 1, 2, 3}  # None: a candidate evaluated before


def test_an_array_of_configurations_over_shared_shards(slurm):
    grid = slurm.folder / "grid"
    grid.mkdir()
    for name, nodes in (("small", 40), ("it's large", 80)):
        slurm.config(f"reservoir.nodes={nodes}").rename(grid / f"{name}.toml")
    options = [f"--sbatch={option}" for option in ("--ntasks=1", "--cpus-per-task=1", "--time=10")]
    said = slurm.call(*rcdp("submit", "--out", "run", "--array", "configs=grid", *options))
    _, array = re.findall(r"^\w+: job (\d+)", said, re.MULTILINE)
    names = ("config-it's large", "config-small")
    for task, _ in enumerate(names, 1):
        slurm.done(f"{array}_{task}")
    status = slurm.call(*rcdp("status", "run"))
    for name in names:
        accuracy = slurm.state("evaluate", f"run/{name}")["result"]["accuracy"]
        assert re.search(rf"  {name}: done: .*accuracy {100 * accuracy:.2f} %", status), status
        assert (slurm.folder / "run" / name / "shards").resolve() == slurm.folder / "run/shards"
    nodes = [load_config(slurm.folder / "run" / name / "config.toml").reservoir.nodes for name in names]
    assert nodes == [80, 40]


def test_an_array_of_folds(slurm):
    options = [f"--sbatch={option}" for option in ("--ntasks=1", "--cpus-per-task=1", "--time=10")]
    said = slurm.call(*rcdp("submit", str(slurm.config()), "--out", "run", "--array", "folds=2", *options))
    (array,) = re.findall(r"^\w+: job (\d+)", said, re.MULTILINE)
    for task in (1, 2):
        slurm.done(f"{array}_{task}")
    status = slurm.call(*rcdp("status", "run"))
    assert "fold-2: done: " in status
    assert "mean of 2 folds: accuracy" in status


def test_an_array_of_the_cells_of_a_comparison(slurm):
    options = [f"--sbatch={option}" for option in ("--ntasks=1", "--cpus-per-task=1", "--time=10")]
    config = str(slurm.config("compare.methods=ridge,logistic"))
    said = slurm.call(*rcdp("submit", config, "--out", "run", "--array", "cells", *options))
    _, array = re.findall(r"^\w+: job (\d+)", said, re.MULTILINE)
    for task in (1, 2):
        slurm.done(f"{array}_{task}")
    status = slurm.call(*rcdp("status", "run"))
    assert len(re.findall(r"^  (?:ridge|logistic)-seed-1 +done: test accuracy", status, re.MULTILINE)) == 2, status
    assert [cell.done for cell in read_comparison(slurm.folder / "run").cells] == [True, True]


def test_submit_in_one_job_from_a_folder_with_a_hostile_name(slurm):
    name = 'it\'s $(touch pwned) `touch pwned` "100%j" & ; #x'
    said = slurm.call(*rcdp("submit", str(slurm.config()), "--out", name, "--one-job", *QUICKLY))
    (job,) = re.findall(r"^all: job (\d+)", said, re.MULTILINE)
    status = slurm.call(*rcdp("status", name))
    assert f"job {job}: " in status
    slurm.done(job)
    assert "test accuracy" in (slurm.folder / name / f"logs/all-{job}.log").read_text()
    assert not list(slurm.folder.rglob("pwned"))
    assert not [path for path in slurm.folder.iterdir() if path.name not in ("slurm", "quick.toml", name)]


def test_the_scripts_one_by_one(slurm):
    """The search with mpirun, training with allocated devices that CPU ranks do not use, and another evaluation."""
    config = slurm.config()
    slurm.done(slurm.sbatch("prepare.sbatch", "--time=10", config=config))
    slurm.done(slurm.sbatch("search.sbatch", *ON_ONE, config=config, RCDP_LAUNCH="mpirun --bind-to none"))
    slurm.done(slurm.sbatch("train.sbatch", *ON_ONE, "--gpus-per-task=1", config=config))
    job = slurm.sbatch("evaluate.sbatch", "--time=10")
    slurm.done(job)
    assert "test accuracy" in (slurm.folder / f"rcdp-evaluate-{job}.log").read_text()
    assert slurm.state("search")["ranks"] == slurm.state("train")["ranks"] == 2
