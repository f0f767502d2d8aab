"""How often the 95 % intervals of the criteria cover the true value, by simulation.

    python benchmarks/interval_coverage.py [--repetitions 400] [--seed 0]

Scores of class k are normal with deviation 1, and larger by the separation of the class for its own samples;
probabilities are their softmax. Tests of given class counts are drawn again and again; the true value of a criterion is
that of 200,000 rows a class, weighted to the same counts. A cell of the table is the share of the intervals that cover
it, and their mean width. The second table is for the differences of two classifiers whose scores are correlated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcdp_hpc.config.choices.criteria import CRITERIA
from rcdp_hpc.model.criteria import all_criteria
from rcdp_hpc.model.criteria.measured import measure
from rcdp_hpc.model.criteria.paired import compare_predictions, confusion_criteria

LARGE = 200_000


@dataclass(frozen=True)
class Population:
    """Samples of a test, and how well a classifier separates them.

    Attributes
    ----------
    counts : sequence of int
        Samples of each class.
    separation : sequence of float
        Of each class, in deviations of the scores.
    """

    counts: Sequence[int]
    separation: Sequence[float]

    @property
    def names(self) -> list[str]:
        return [str(label) for label in range(len(self.counts))]

    def draw(self, generator: np.random.Generator, counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and scores of a test of these counts."""
        labels = np.repeat(np.arange(len(counts)), counts)
        scores = generator.normal(size=(len(labels), len(counts)))
        scores[np.arange(len(labels)), labels] += np.asarray(self.separation)[labels]
        return labels, scores


POPULATIONS = {
    "even, 10 classes of 50": Population([50] * 10, [2.5] * 10),
    "uneven, 200, 30, 8": Population([200, 30, 8], [2.5, 1.5, 1.0]),
    "few errors, 100 to 5": Population([100, 50, 20, 10, 5], [4.0] * 5),
    "rare class of 6": Population([500, 20, 6], [3.0, 1.0, 0.5]),
    "two classes, 190 and 10": Population([190, 10], [1.5, 1.5]),
    "40 classes of 20": Population([20] * 40, [4.0] * 40),
}


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def coverage(population: Population, repetitions: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return the share of intervals that cover the true value, and their mean width, of each criterion.

    Tests in which a criterion has no interval do not count for it.
    """
    generator = np.random.default_rng(seed)
    true = _true_values(population, generator)
    covered, widths, made = (dict.fromkeys(CRITERIA.names, 0.0) for _ in range(3))
    for repetition in range(repetitions):
        labels, scores = population.draw(generator, population.counts)
        found = measure(labels, scores.argmax(1), softmax(scores), population.names, repetition)
        for name, (low, high) in found.intervals.items():
            covered[name] += low <= true[name] <= high
            widths[name] += high - low
            made[name] += 1
    return {name: (covered[name] / max(1, made[name]), widths[name] / max(1, made[name])) for name in CRITERIA.names}


def _true_values(population: Population, generator: np.random.Generator) -> dict[str, float]:
    size = max(2000, LARGE // len(population.counts))
    labels, scores = population.draw(generator, [size] * len(population.counts))
    weights = np.asarray(population.counts, float)[labels] / size
    rows = (labels, scores.argmax(1), softmax(scores), weights)
    return {one.name: one.value(*rows) for one in all_criteria(population.names)}


def paired_coverage(population: Population, repetitions: int, seed: int) -> dict[str, float]:
    """Return the share of intervals of differences that cover the true one, of each criterion of the predictions."""
    generator = np.random.default_rng(seed)
    size = max(2000, LARGE // len(population.counts))
    labels, *predictions = _two(population, generator, [size] * len(population.counts))
    weights = np.asarray(population.counts, float)[labels] / size
    criteria = confusion_criteria(population.names)
    true = {one.name: np.subtract(*(one.value(labels, answers, None, weights) for answers in predictions))
            for one in criteria}  # fmt: skip
    covered = dict.fromkeys(true, 0)
    for repetition in range(repetitions):
        found = compare_predictions(*_two(population, generator, population.counts), population.names, repetition)
        for name, difference in found.differences.items():
            covered[name] += difference.interval[0] <= true[name] <= difference.interval[1]
    return {name: count / repetitions for name, count in covered.items()}


def _two(population: Population, generator: np.random.Generator, counts: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Return labels and the predictions of two classifiers; the other one sees more noise."""
    labels, scores = population.draw(generator, counts)
    return labels, scores.argmax(1), (scores + generator.normal(size=scores.shape)).argmax(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| test |", " | ".join(CRITERIA.names), "|")
    print("|---" * (len(CRITERIA.names) + 1), "|", sep="")
    for name, population in POPULATIONS.items():
        found = coverage(population, options.repetitions, options.seed)
        cells = (f"{100 * share:.0f} ({width:.3f})" for share, width in found.values())
        print(f"| {name} |", " | ".join(cells), "|", flush=True)
    print("\ndifferences of two classifiers")
    for name, population in POPULATIONS.items():
        paired = paired_coverage(population, options.repetitions, options.seed)
        print(f"| {name} |", " | ".join(f"{one} {100 * share:.0f}" for one, share in paired.items()), "|", flush=True)


if __name__ == "__main__":
    main()
