"""RUN/search/generations.jsonl: how busy the ranks were in each generation."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path

from rcdp_hpc.runtime.digests import append_sealed, read_intact_lines

NAME = "generations.jsonl"


@dataclass(frozen=True)
class Usage:
    """One generation, or the part of it that a job evaluated.

    Attributes
    ----------
    generation : int
        From 1.
    candidates : int
        Evaluated candidates.
    ranks, workers : int
        Ranks of the job, and groups of ranks that evaluated candidates.
    wall : float
        Seconds of the generation.
    busy : float
        Seconds of all evaluations, summed over ranks.
    slowest : float
        Seconds of the evaluations of the worker that finished last.
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
        """Share of the wall time in which no rank evaluates: rank 0's other work, and communication."""
        return max(0.0, 1 - self.slowest / self.wall) if self.wall > 0 else 0.0

    def summary(self) -> str:
        """Return a few words for progress lines."""
        rate = self.candidates / self.wall if self.wall > 0 else 0.0
        return f"{rate:.3g} candidates/s, efficiency {self.efficiency:.0%}"


def append_usage(folder: Path, usage: Usage) -> None:
    """Add a line to generations.jsonl; only reports and progress read it."""
    append_sealed(folder / NAME, asdict(usage))


def read_usage(folder: Path) -> list[Usage]:
    """Return the intact lines of generations.jsonl; empty if there is no such file."""
    usages = []
    for tree in read_intact_lines(folder / NAME).records:
        with contextlib.suppress(TypeError):  # a line of another version
            usages.append(Usage(**tree))
    return usages
