"""The lines of a search's history.jsonl: its convergence and its winner."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Line = dict[str, Any]


def best_so_far(lines: list[Line]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the generations, the best fitness up to each, and the mean fitness of each; NaN if all failed."""
    generations = np.unique([line["generation"] for line in lines])
    fitness = {int(generation): [math.nan] for generation in generations}
    for line in lines:
        if line["fitness"] is not None:
            fitness[line["generation"]].append(line["fitness"])
    best = np.array([np.max(fitness[g][1:], initial=-np.inf) for g in generations])
    mean = np.array([np.mean(fitness[g][1:]) if len(fitness[g]) > 1 else np.nan for g in generations])
    best = np.maximum.accumulate(best)
    return generations, np.where(np.isfinite(best), best, np.nan), mean


def winner_of(lines: list[Line]) -> Line | None:
    """Return the line of the best candidate, the first if several are equal; None if all failed."""
    sound = [line for line in lines if line["fitness"] is not None]
    return max(sound, key=lambda line: line["fitness"], default=None)
