"""Selection of features by ridge regression of training samples: by elimination, or by a genetic search.

A feature has a value at each step. Of long series, the means over a few segments stand for the steps, so that the sums
stay small. A fifth of the samples is held out. Subsets are compared by the squared error of the held-out samples with
the readout of the others, which follows from two sums over samples: no subset needs the samples again.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.elimination import Elimination, sums_of_features
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import one_hot, solve

# Penalty per row of the ridge regressions; features are standardised.
PENALTY = 1e-2
# Largest number of values of a sample in the sums.
MOST_VALUES = 4096
# Of samples with more values, segments of steps are averaged.
SEGMENTED_VALUES = 2048
# Every fifth sample, in random order, is held out.
HELD_OUT = 5
BLOCK = 4096
# The genetic search: subsets of a generation, generations, subsets that stay, and features exchanged by a mutation.
POPULATION = 24
GENERATIONS = 30
ELITE = 4
MUTATIONS = 2


@dataclass(frozen=True)
class SelectedFeatures:
    """A selection.

    Attributes
    ----------
    features : numpy.ndarray, shape (k,), int64
        Ascending.
    error, error_of_all : float
        Squared error of the held-out samples with these features, and with all features.
    """

    features: NDArray[np.int64]
    error: float
    error_of_all: float


def select_features(
    steps: NDArray[np.float32], labels: NDArray[np.int64], count: int, method: str, seed: int
) -> SelectedFeatures:
    """Select features of the steps of samples.

    Parameters
    ----------
    steps : numpy.ndarray, shape (samples, steps, features), float32
    labels : numpy.ndarray, shape (samples,), int64
        Class indices.
    count : int
        Features to select.
    method : {"greedy", "genetic"}
        "greedy": the feature that costs least is eliminated until `count` are left. "genetic": a population of subsets
        that starts with that result changes by crossover and mutation.
    seed : int
        Of the held-out samples and of the genetic search.

    Raises
    ------
    InputError
        If samples have too many features, or there are too few samples.
    """
    if steps.shape[2] > MOST_VALUES:
        raise InputError(
            f"extractor.kind = 'selection' compares at most {MOST_VALUES} features, and these samples have "
            f"{steps.shape[2]}: set extractor.kind = 'pca' or 'random_projection', or extractor.over = 'steps'"
        )
    if len(steps) < 2 * HELD_OUT:
        raise InputError(
            f"extractor.kind = 'selection' needs at least {2 * HELD_OUT} training samples, and there are {len(steps)}"
        )
    judge = _Judge(_segmented(steps), labels, np.random.default_rng([seed, len(steps)]))
    chosen = judge.eliminated(count)
    if method == "genetic":
        chosen = _evolved(judge, chosen, np.random.default_rng([seed, count]))
    everything = np.arange(steps.shape[2])
    return SelectedFeatures(chosen, judge.error(chosen), judge.error(everything))


def _segmented(steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means over segments of the steps, few enough for the sums."""
    count = max(1, min(steps.shape[1], SEGMENTED_VALUES // steps.shape[2]))
    if count == steps.shape[1]:
        return steps
    edges = np.arange(count + 1) * steps.shape[1] // count
    means = [steps[:, start:stop].mean(1) for start, stop in pairwise(edges)]
    return np.stack(means, 1)


class _Judge:
    """Errors of subsets of features, from the sums of two parts of the samples."""

    def __init__(self, steps: NDArray[np.float32], labels: NDArray[np.int64], generator: np.random.Generator) -> None:
        self.features = steps.shape[2]
        # Feature j of all steps; a row of the sums is ordered by step.
        self.groups = np.arange(steps.shape[1] * self.features).reshape(-1, self.features).T.copy()
        places = generator.permutation(len(steps))
        held_out = np.zeros(len(steps), dtype=bool)
        held_out[places[::HELD_OUT]] = True
        targets = one_hot(labels, int(labels.max()) + 1)
        rows = steps.reshape(len(steps), -1)
        self.fitted, self.held_out = (_sums(rows[part], targets[part]) for part in (~held_out, held_out))
        self._known: dict[bytes, float] = {}

    def error(self, features: NDArray[np.int64]) -> float:
        """Return the squared error of the held-out samples with the readout of these features, ascending."""
        key = features.tobytes()
        if key not in self._known:
            values = np.sort(self.groups[features], axis=None)
            readout = solve(sums_of_features(self.fitted, values), PENALTY)
            self._known[key] = sums_of_features(self.held_out, values).mean_squared_error(readout)
        return self._known[key]

    def eliminated(self, count: int) -> NDArray[np.int64]:
        """Return the features that are left after an elimination, ascending."""
        elimination = Elimination(self.fitted, PENALTY, self.groups)
        for _ in elimination.blocks(count):
            continue
        return np.flatnonzero(elimination.left)


def _sums(rows: NDArray[np.float32], targets: NDArray[np.float32]) -> GramSums:
    sums = GramSums(rows.shape[1], targets.shape[1])
    sums.add_all(rows, targets, BLOCK)
    return sums


def _evolved(judge: _Judge, start: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the best subset of a genetic search.

    Parents are the better of two random subsets. A child has the features that both parents have, and is filled up from
    those that one of them has; a few of its features are exchanged for others. The best subsets stay.
    """
    count, total = len(start), judge.features
    if count == total:
        return start

    def drawn() -> NDArray[np.int64]:
        return np.sort(generator.choice(total, count, replace=False))

    population = [start, *(_mutated(start, total, generator) for _ in range(POPULATION // 3))]
    population += [drawn() for _ in range(POPULATION - len(population))]
    for _ in range(GENERATIONS):
        population.sort(key=judge.error)
        parents = list(population)
        children = population[:ELITE]
        while len(children) < POPULATION:
            first, second = (parents[int(generator.integers(POPULATION, size=2).min())] for _ in range(2))
            both, either = np.intersect1d(first, second), np.setxor1d(first, second)
            child = np.concatenate([both, generator.choice(either, count - len(both), replace=False)])
            children.append(_mutated(np.sort(child), total, generator))
        population = children
    return min(population, key=judge.error)


def _mutated(features: NDArray[np.int64], total: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the subset with up to `MUTATIONS` features exchanged for others."""
    others = np.setdiff1d(np.arange(total), features)
    exchanged = min(int(generator.integers(MUTATIONS + 1)), len(features), len(others))
    stay = generator.permutation(features)[exchanged:]
    return np.sort(np.concatenate([stay, generator.choice(others, exchanged, replace=False)]))
