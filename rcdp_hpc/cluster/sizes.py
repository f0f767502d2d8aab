"""Sizes of jobs: as many ranks as are useful, at most as many as fit on the nodes of this Slurm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rcdp_hpc.cluster.estimates import MARGIN, StagePlan, Work
from rcdp_hpc.cluster.partitions import Partition, choose_partition, partition_of
from rcdp_hpc.cluster.scripts import Resources, Stage, resources, site_options
from rcdp_hpc.config import Config
from rcdp_hpc.runtime.ram import MIB

_LESS_MEMORY = {
    "prepare": "lower data.memory_budget",
    "search": "lower search.train_rows, reservoir.batch_rows or reservoir.nodes",
    "train": "set states.memory_mib (states beyond it go to a file), or states.precision = 'float16'",
    "all": "submit the stages as separate jobs (without --one-job), or reduce the needs of the largest stage",
}


@dataclass(frozen=True)
class Job:
    """A job of suitable size.

    Attributes
    ----------
    plan : StagePlan
        The estimate, with the resources to request.
    partition : Partition or None
        The partition that the job fits in; None without Slurm.
    options : tuple of str
        The option with the name of the partition, if the site file names it.
    obstacle : str
        Why the job cannot start in the partition, and what to do; empty if it can.
    """

    plan: StagePlan
    partition: Partition | None
    options: tuple[str, ...] = ()
    obstacle: str = ""

    def lines(self) -> list[str]:
        """Return the line for the site file, and a comment if there is one."""
        line = self.plan.option_line(self.partition, self.options)
        if self.obstacle:
            return [f"# {line}", f"# cannot start: {self.obstacle}"]
        limit = self.partition.minutes if self.partition else 0
        if limit and self.plan.minutes > limit:
            more = (
                f"# {self.plan.stage} takes about {self.plan.seconds / 60:.0f} minutes, {self.plan.minutes} with a "
                f"margin: at the limit of {limit} the job stops with a checkpoint and is requeued to continue"
            )
            return [line, more]
        return [line]


def fit_job(work: Work, stage: Stage, partitions: Sequence[Partition], site: Path | None = None) -> Job:
    """Return the job of the largest useful size that the nodes of this Slurm can start.

    Parameters
    ----------
    work : Work
    stage : {"prepare", "search", "train", "all"}
    partitions : sequence of Partition
        Available partitions, the default one first; empty without Slurm.
    site : Path, optional
        The site file, which may name the partition.
    """
    options = site_options(site, stage) if site else []
    named = partition_of(options)
    extra = (f"--partition={named}",) if named else ()
    partition = choose_partition(partitions, named)
    asked = resources(stage, work.config)
    if partition is None:
        obstacle = f"the site file names the partition {named}, which does not take jobs here" if partitions else ""
        return Job(work.job(stage, asked), None, extra, obstacle)
    asked = _free_cores(work.config, stage, asked, partition)
    while True:
        plan = work.job(stage, asked)
        most_ranks = partition.most_ranks(asked.cores, plan.memory_per_core * MIB * asked.cores)
        if most_ranks >= asked.ranks:
            return Job(plan, partition, extra)
        if asked.ranks == 1:
            return Job(plan, partition, extra, _obstacle(plan, partition))
        # Fewer ranks may need more memory each, so the estimate is repeated.
        asked = replace(asked, ranks=max(1, min(asked.ranks - 1, most_ranks)))


def _free_cores(config: Config, stage: Stage, asked: Resources, partition: Partition) -> Resources:
    """Return the resources with at most the cores of a node, unless the configuration sets their number."""
    fixed = {"prepare": 1, "search": config.search.threads, "train": config.training.threads or 1}
    least = fixed.get(stage, max(fixed.values()))
    return replace(asked, cores=max(least, min(asked.cores, partition.cores)))


def _obstacle(plan: StagePlan, partition: Partition) -> str:
    cores = plan.resources.cores
    if cores > partition.cores:
        return (
            f"a rank has {cores} threads, and no node of partition {partition.name} has more than {partition.cores} "
            "cores: lower search.threads or training.threads, or name another partition in the site file"
        )
    needed = plan.memory_per_core * cores / 1024
    most = partition.memory / MIB / 1024
    limit = f"no node of partition {partition.name} has more than {most:.1f} GiB"
    if partition.memory_per_core and partition.memory_per_core * cores < partition.memory:
        limit = f"partition {partition.name} gives {partition.memory_per_core / MIB / 1024:.1f} GiB a core at most"
    return (
        f"one rank needs {needed:.1f} GiB with a margin, and {limit}: {_LESS_MEMORY[plan.stage]}, or name another "
        "partition in the site file"
    )


def site_lines(jobs: Sequence[Job]) -> list[str]:
    """Return the lines for the site file, and the partitions that they fit in."""
    partitions = list(dict.fromkeys(job.partition.describe() for job in jobs if job.partition))
    checked = partitions or ["without Slurm here, the lines may not fit on your nodes: compare them with sinfo"]
    return [
        f"for your site file ({MARGIN:g} times the estimated time and data):",
        *(f"  # {line}" for line in checked),
        *(f"  {line}" for job in jobs for line in job.lines()),
    ]
