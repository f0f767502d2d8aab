"""What the nodes of this Slurm have, and whether a job can start on them."""

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

# Slurm's own default of a node's memory, in MiB: nobody has configured it, and a job that asks for memory is refused.
_UNKNOWN_MEMORY = 1


@dataclass(frozen=True)
class Nodes:
    """Nodes of one kind.

    Attributes
    ----------
    count, cores : int
        How many, and the cores of each.
    memory : int
        Bytes of each that jobs may ask for; 0 if Slurm was not told.
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
        The longest time limit; 0 if there is none.
    most_nodes : int
        The most nodes of a job; 0 if there is no such limit.
    memory_per_core : int
        The most bytes that a job may ask for by core; 0 if there is no such limit.
    """

    name: str
    nodes: tuple[Nodes, ...]
    minutes: int = 0
    most_nodes: int = 0
    memory_per_core: int = 0

    @property
    def knows_memory(self) -> bool:
        """Whether jobs may ask for memory at all."""
        return all(node.memory for node in self.nodes)

    @property
    def cores(self) -> int:
        """The cores of the largest node."""
        return max(node.cores for node in self.nodes)

    @property
    def memory(self) -> int:
        """The bytes of the largest node; 0 if not known."""
        return max(node.memory for node in self.nodes)

    def most_ranks(self, cores: int, memory: int) -> int:
        """Return how many ranks a job may have here at most.

        Parameters
        ----------
        cores : int
            Of each rank.
        memory : int
            Bytes of each rank.
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
        """Return the partition in words."""
        kinds = [
            f"{node.count} node{'s' * (node.count > 1)} of {node.cores} cores"
            + (f" and {node.memory / MIB / 1024:.1f} GiB" if node.memory else ", memory not known to Slurm")
            for node in self.nodes
        ]
        limit = f", {self.minutes} minutes at most" if self.minutes else ""
        return f"partition {self.name} of this Slurm: {'; '.join(kinds)}{limit}"


def read_partitions() -> list[Partition]:
    """Return the partitions of this Slurm that take jobs, the default one first; none if there is no Slurm here."""
    if shutil.which("sinfo") is None or shutil.which("scontrol") is None:
        return []
    try:
        described = fields_of(scontrol(["show", "partition"]), "PartitionName")
        rows = sinfo("%R|%D|%c|%m").splitlines()
    except RcdpError as error:
        log.warning("Slurm cannot be asked for its nodes: %s", error)
        return []
    usable = (one for one in described if one.get("State", "UP") == "UP")
    found = [_partition(one, rows) for one in sorted(usable, key=lambda one: one.get("Default") != "YES")]
    return [partition for partition in found if partition.nodes]


def choose(partitions: Sequence[Partition], name: str) -> Partition | None:
    """Return the partition of a name, the first without one; None if it is not there."""
    return next((one for one in partitions if name in ("", one.name)), None)


def partition_of(options: Sequence[str]) -> str:
    """Return the name of the partition in options of sbatch, of several the first; the last option counts."""
    found = ""
    for at, option in enumerate(options):
        if option in ("-p", "--partition"):
            found = options[at + 1] if at + 1 < len(options) else ""
        elif match := re.fullmatch(r"(?:--partition=|-p)(.+)", option):
            found = match[1]
    return found.partition(",")[0]


def _partition(fields: dict[str, str], rows: Sequence[str]) -> Partition:
    name, most = fields["PartitionName"], _number(fields.get("MaxMemPerNode", ""))
    most_cores = _number(fields.get("MaxCPUsPerNode", ""))
    nodes = []
    for row in rows:
        partition, *numbers = row.strip().split("|")
        if partition == name and len(numbers) == 3:
            count, cores, memory = (_number(number) for number in numbers)
            known = memory if memory > _UNKNOWN_MEMORY else 0
            cores = max(1, min(cores, most_cores or cores))
            nodes.append(Nodes(count, cores, MIB * (min(known, most) if most else known)))
    return Partition(
        name,
        tuple(nodes),
        _minutes(fields.get("MaxTime", "")),
        _number(fields.get("MaxNodes", "")),
        MIB * _number(fields.get("MaxMemPerCPU", "")),
    )


def _number(text: str) -> int:
    """Return the number a field begins with, 0 for UNLIMITED and the like; 4+ are at least four."""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0


def _minutes(text: str) -> int:
    """Return the minutes of days-hours:minutes:seconds, 0 for UNLIMITED."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if not found:
        return 0
    days, hours, minutes, _ = (int(part or 0) for part in found.groups())
    return (24 * days + hours) * 60 + minutes
