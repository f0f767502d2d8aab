"""How well the ranks were used, generation by generation: RUN/search/generations.jsonl."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path

from rcdp_hpc.runtime.digests import append_sealed, read_intact_lines

NAME = "generations.jsonl"


@dataclass(frozen=True)
class Usage:
    """One generation, or what a job did of it.

    Attributes
    ----------
    generation : int
        From 1.
    candidates : int
        Evaluated in it.
    ranks, workers : int
        Ranks of the job, and groups that they worked in.
    wall, busy, slowest : float
        Seconds of the generation; of all ranks' evaluations together; of the worker that was done last.
    """

    generation: int
    candidates: int
    ranks: int
    workers: int
    wall: float
    busy: float
    slowest: float

    @property
    def efficiency(self) -> float:
        """Busy time over wall time times ranks."""
        return self.busy / (self.wall * self.ranks) if self.wall > 0 else 0.0

    @property
    def overhead(self) -> float:
        """Share of the wall time in which no rank evaluated: rank 0's own work and all communication."""
        return max(0.0, 1 - self.slowest / self.wall) if self.wall > 0 else 0.0

    def words(self) -> str:
        """Return a few words for progress lines."""
        rate = self.candidates / self.wall if self.wall > 0 else 0.0
        return f"{rate:.3g} candidates/s, efficiency {self.efficiency:.0%}"


def append_usage(folder: Path, usage: Usage) -> None:
    """Add a line to generations.jsonl; it is for people and the report, and nothing depends on it."""
    append_sealed(folder / NAME, asdict(usage))


def read_usage(folder: Path) -> list[Usage]:
    """Return the lines of generations.jsonl that are whole; empty if there is no such file."""
    found = []
    for tree in read_intact_lines(folder / NAME).records:
        with contextlib.suppress(TypeError):  # of another version
            found.append(Usage(**tree))
    return found
