"""Partitions and nodes of this Slurm, and whether a job can start on them."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from rcdp_hpc.cluster.slurm import fields_of, scontrol, sinfo
from rcdp_hpc.errors import RcdpError
from rcdp_hpc.runtime.ram import MIB

log = logging.getLogger(__name__)

# Slurm's default memory of a node in MiB: the memory is not configured, and jobs that request memory are refused.
_UNKNOWN_MEMORY = 1


@dataclass(frozen=True)
class Nodes:
    """Equal nodes.

    Attributes
    ----------
    count : int
        Number of nodes.
    cores : int
        Cores per node.
    memory : int
        Bytes per node that jobs can request; 0 if Slurm does not know.
    """

    count: int
    cores: int
    memory: int


@dataclass(frozen=True)
class Partition:
    """A partition of this Slurm.

    Attributes
    ----------
    name : str
    nodes : tuple of Nodes
    minutes : int
        Maximum time limit; 0 for none.
    most_nodes : int
        Maximum number of nodes of a job; 0 for no limit.
    memory_per_core : int
        Maximum bytes per core that a job can request; 0 for no limit.
    """

    name: str
    nodes: tuple[Nodes, ...]
    minutes: int = 0
    most_nodes: int = 0
    memory_per_core: int = 0

    @property
    def knows_memory(self) -> bool:
        """Whether jobs can request memory."""
        return all(node.memory for node in self.nodes)

    @property
    def cores(self) -> int:
        """Cores of the largest node."""
        return max(node.cores for node in self.nodes)

    @property
    def memory(self) -> int:
        """Bytes of memory of the largest node; 0 if unknown."""
        return max(node.memory for node in self.nodes)

    def most_ranks(self, cores: int, memory: int) -> int:
        """Return the maximum number of ranks of a job.

        Parameters
        ----------
        cores : int
            Cores per rank.
        memory : int
            Bytes per rank.
        """
        if self.memory_per_core and memory > cores * self.memory_per_core:
            return 0
        on_each = [
            min(node.cores // cores, node.memory // memory if self.knows_memory else node.cores)
            for node in self.nodes
            for _ in range(node.count)
        ]
        return sum(sorted(on_each, reverse=True)[: self.most_nodes or None])

    def describe(self) -> str:
        """Return a description of the partition."""
        kinds = [
            f"{node.count} node{'s' * (node.count > 1)} of {node.cores} cores"
            + (f" and {node.memory / MIB / 1024:.1f} GiB" if node.memory else ", memory not known to Slurm")
            for node in self.nodes
        ]
        limit = f", {self.minutes} minutes at most" if self.minutes else ""
        return f"partition {self.name} of this Slurm: {'; '.join(kinds)}{limit}"


def read_partitions() -> list[Partition]:
    """Return the partitions that accept jobs, the default partition first; an empty list without Slurm."""
    if shutil.which("sinfo") is None or shutil.which("scontrol") is None:
        return []
    try:
        described = fields_of(scontrol(["show", "partition"]), "PartitionName")
        rows = sinfo("%R|%D|%c|%m").splitlines()
    except RcdpError as error:
        log.warning("the nodes of this Slurm cannot be determined: %s", error)
        return []
    usable = (one for one in described if one.get("State", "UP") == "UP")
    partitions = [_partition(one, rows) for one in sorted(usable, key=lambda one: one.get("Default") != "YES")]
    return [partition for partition in partitions if partition.nodes]


def choose_partition(partitions: Sequence[Partition], name: str) -> Partition | None:
    """Return the partition of this name, the first one for an empty name; None if it does not exist."""
    return next((one for one in partitions if name in ("", one.name)), None)


def partition_of(options: Sequence[str]) -> str:
    """Return the first partition of the last partition option among options of sbatch; empty without one."""
    names = ""
    for at, option in enumerate(options):
        if option in ("-p", "--partition"):
            names = options[at + 1] if at + 1 < len(options) else ""
        elif match := re.fullmatch(r"(?:--partition=|-p)(.+)", option):
            names = match[1]
    return names.partition(",")[0]


def _partition(fields: dict[str, str], rows: Sequence[str]) -> Partition:
    name, most = fields["PartitionName"], _number(fields.get("MaxMemPerNode", ""))
    most_cores = _number(fields.get("MaxCPUsPerNode", ""))
    nodes = []
    for row in rows:
        partition, *numbers = row.strip().split("|")
        if partition == name and len(numbers) == 3:
            count, cores, memory = (_number(number) for number in numbers)
            memory = memory if memory > _UNKNOWN_MEMORY else 0
            cores = max(1, min(cores, most_cores or cores))
            nodes.append(Nodes(count, cores, MIB * (min(memory, most) if most else memory)))
    return Partition(
        name,
        tuple(nodes),
        _minutes(fields.get("MaxTime", "")),
        _number(fields.get("MaxNodes", "")),
        MIB * _number(fields.get("MaxMemPerCPU", "")),
    )


def _number(text: str) -> int:
    """Return the number at the start of a field (4 for "4+"); 0 for UNLIMITED and similar words."""
    number = re.match(r"\d+", text)
    return int(number[0]) if number else 0


def _minutes(text: str) -> int:
    """Return the minutes of days-hours:minutes:seconds; 0 for UNLIMITED."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if not match:
        return 0
    days, hours, minutes, _ = (int(part or 0) for part in match.groups())
    return (24 * days + hours) * 60 + minutes
