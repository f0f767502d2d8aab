"""What mattered in a search: the influence of each searched value on the fitness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Fewer candidates than this show a rank correlation only.
LEAST_CANDIDATES = 30
# More are thinned evenly, which keeps the time below a few seconds.
MOST_CANDIDATES = 1500
TREES = 60
FOLDS = 3
REPEATS = 5
# The importance is not shown if the trees explain less of the held-out candidates.
LEAST_EXPLAINED = 0.1

Record = dict[str, Any]


@dataclass(frozen=True)
class Influence:
    """The influence of one searched value.

    Attributes
    ----------
    name : str
    importance : float
        Share of the explained variance of the fitness ranks that is lost if the values of held-out candidates are
        exchanged at random; NaN if there are too few candidates.
    correlation : float
        Spearman's rank correlation with the fitness; NaN for choices that are not numbers, and for a constant value.
    """

    name: str
    importance: float
    correlation: float


def influences(lines: Sequence[Record]) -> tuple[list[Influence], float]:
    """Return the influence of each searched value on the fitness, and how well the trees explain the fitness.

    The importance is a permutation importance. A forest of extremely randomised trees (scikit-learn) predicts the rank
    of the fitness from the values. It is fitted to two thirds of the candidates; on the others, each value in turn is
    exchanged between candidates, and the loss of R^2 is measured, five times, over three folds. Candidates are those
    that an optimiser proposed: they are dense near its winner, so the importance describes this search, not the space.

    Parameters
    ----------
    lines : sequence of dict
        Lines of ``history.jsonl`` that were evaluated on all rows. Reused and failed candidates are left out.

    Returns
    -------
    influences : list of Influence
        In the order of the values.
    explained : float
        R^2 on held-out candidates; NaN if there are too few candidates.
    """
    sound = [line for line in lines if line["fitness"] is not None and not line.get("reused")]
    names = list(sound[0]["values"]) if sound else []
    columns = {name: _numbers([line["values"].get(name) for line in sound]) for name in names}
    fitness = np.array([line["fitness"] for line in sound], float)
    correlations = [
        _rank_correlation(columns[name], fitness) if _is_numeric(sound, name) else math.nan for name in names
    ]
    losses, explained = np.full(len(names), math.nan), math.nan
    if len(sound) >= LEAST_CANDIDATES and np.ptp(fitness) > 0:
        losses, explained = _permutation_losses(np.stack(list(columns.values()), axis=1), fitness)
    found = zip(names, losses.tolist(), correlations, strict=True)
    return [Influence(name, loss, correlation) for name, loss, correlation in found], explained


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """Return values as numbers; choices that are not numbers by their index in alphabetical order."""
    if all(isinstance(value, int | float) for value in values):
        return np.array(values, float)
    order = {text: place for place, text in enumerate(sorted({str(value) for value in values}))}
    return np.array([order[str(value)] for value in values], float)


def _is_numeric(lines: Sequence[Record], name: str) -> bool:
    return all(isinstance(line["values"].get(name), int | float) for line in lines)


def _rank_correlation(values: NDArray[np.float64], fitness: NDArray[np.float64]) -> float:
    from scipy.stats import rankdata

    if len(values) < 3 or np.ptp(values) == 0 or np.ptp(fitness) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(values), rankdata(fitness))[0, 1])


def _permutation_losses(x: NDArray[np.float64], fitness: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the mean loss of R^2 for each column, in shares of their sum, and the mean R^2, over held-out thirds."""
    from scipy.stats import rankdata
    from sklearn.ensemble import ExtraTreesRegressor

    generator = np.random.default_rng(0)
    chosen = generator.permutation(len(x))[:MOST_CANDIDATES]
    x, y = x[chosen], rankdata(fitness)[chosen]
    losses, scores = np.zeros(x.shape[1]), []
    for held in np.array_split(np.arange(len(x)), FOLDS):
        rest = np.setdiff1d(np.arange(len(x)), held)
        trees = ExtraTreesRegressor(TREES, min_samples_leaf=3, random_state=0, n_jobs=1).fit(x[rest], y[rest])
        spread = max(float(np.var(y[held])), 1e-12)
        error = float(np.mean((trees.predict(x[held]) - y[held]) ** 2))
        scores.append(1 - error / spread)
        for column in range(x.shape[1]):
            for _ in range(REPEATS):
                exchanged = x[held].copy()
                exchanged[:, column] = generator.permutation(exchanged[:, column])
                worse = float(np.mean((trees.predict(exchanged) - y[held]) ** 2))
                losses[column] += (worse - error) / spread / (REPEATS * FOLDS)
    explained = float(np.mean(scores))
    losses = np.maximum(losses, 0)
    if explained < LEAST_EXPLAINED or not losses.sum():
        return np.full(x.shape[1], math.nan), explained
    return losses / losses.sum(), explained
