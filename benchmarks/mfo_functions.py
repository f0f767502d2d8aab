"""Optimisers on three functions with equal evaluations, each beside the first: mean, spread, and who wins how often.

    python benchmarks/mfo_functions.py [random|optimizers|improvements] [--seeds 20] [--population 30]
        [--generations 100] [--dimensions 10]

The functions have their least value, 0, away from the middle of the box: an optimiser that is drawn to the
middle gains nothing by it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.search.optimizers import OPTIMIZERS, ImprovedMothFlame, MothFlame, Optimizer, RandomSearch

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Make = Callable[..., Optimizer]
OFFSET = 0.2  # of the minimum from the middle, as a share of half the box
CHANGES = ("opposition", "levy", "restart")


def sphere(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.square(x).sum(axis=1)


def rastrigin(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return (np.square(x) - 10 * np.cos(2 * np.pi * x) + 10).sum(axis=1)


def ackley(x: NDArray[np.float64]) -> NDArray[np.float64]:
    bowl = -20 * np.exp(-0.2 * np.sqrt(np.square(x).mean(axis=1)))
    return bowl - np.exp(np.cos(2 * np.pi * x).mean(axis=1)) + 20 + np.e


FUNCTIONS: dict[str, tuple[Function, float]] = {
    "sphere": (sphere, 100.0),
    "Rastrigin": (rastrigin, 5.12),
    "Ackley": (ackley, 32.0),
}
GROUPS: dict[str, Mapping[str, Make]] = {
    "random": {"MFO": MothFlame, "random search": RandomSearch},
    "optimizers": OPTIMIZERS,
    "improvements": {
        "as published": MothFlame,
        **{name: partial(ImprovedMothFlame, improvements=[name]) for name in CHANGES},
        "all three": partial(ImprovedMothFlame, improvements=CHANGES),
    },
}


def minimum_found(make: Make, name: str, seed: int, population: int, generations: int, dimensions: int) -> float:
    """Return the least value an optimiser finds."""
    function, bound = FUNCTIONS[name]
    optimizer = make([-bound] * dimensions, [bound] * dimensions, population, generations, seed)
    while not optimizer.done:
        optimizer.tell(function(optimizer.ask() - OFFSET * bound))
    return optimizer.best()[1]


def compare(
    group: Mapping[str, Make], seeds: int, population: int, generations: int, dimensions: int
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return for each function the minima that each optimiser finds, one per seed."""
    size = (population, generations, dimensions)
    return {
        name: {
            label: np.array([minimum_found(make, name, seed, *size) for seed in range(seeds)])
            for label, make in group.items()
        }
        for name in FUNCTIONS
    }


def tell(results: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> None:
    """Print a table: mean (standard deviation), and in how many seeds the first optimiser found a greater value."""
    labels = list(next(iter(results.values())))
    print(f"| function | {' | '.join(labels)} |\n|---|{'---|' * len(labels)}")
    for name, minima in results.items():
        first, cells = minima[labels[0]], []
        for label in labels:
            won = "" if label == labels[0] else f", {np.sum(minima[label] < first)} of {len(first)}"
            cells.append(f"{minima[label].mean():.3g} ({minima[label].std(ddof=1):.2g}{won})")
        print(f"| {name}, ±{FUNCTIONS[name][1]:g} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("group", nargs="?", choices=list(GROUPS), default="random")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--population", type=int, default=30)
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--dimensions", type=int, default=10)
    chosen = vars(parser.parse_args())
    print(
        f"{chosen['dimensions']} dimensions, {chosen['population']} x {chosen['generations']} = "
        f"{chosen['population'] * chosen['generations']} evaluations, seeds 0 to {chosen['seeds'] - 1}: mean of the "
        "least value found (standard deviation, in how many seeds it is less than the first one's)"
    )
    tell(compare(GROUPS[chosen.pop("group")], **chosen))


if __name__ == "__main__":
    main()
