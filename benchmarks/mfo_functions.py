"""Optimisers on three functions with equal evaluations: mean, spread, and in how many seeds each beats the first one.

    python benchmarks/mfo_functions.py [random|optimizers|improvements] [--seeds 20] [--population 30]
        [--generations 100] [--dimensions 10]

The functions have their least value, 0, away from the middle of the box, so that an optimiser with a bias towards the
middle does not profit from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config.choices import MOTH_FLAME_IMPROVEMENTS, SEARCH_OPTIMIZERS
from rcdp_hpc.runtime.user_code import load_choice
from rcdp_hpc.search.optimizers import Optimizer
from rcdp_hpc.search.optimizers.moth_flame import MothFlame
from rcdp_hpc.search.optimizers.random_search import RandomSearch

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Make = Callable[..., Optimizer]
OFFSET = 0.2  # of the minimum from the middle, in half widths of the box
OPTIMIZERS: dict[str, Make] = {name: load_choice(SEARCH_OPTIMIZERS, name) for name in SEARCH_OPTIMIZERS.names}
IMPROVEMENTS = MOTH_FLAME_IMPROVEMENTS.names


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
        **{name: partial(MothFlame, improvements=[name]) for name in IMPROVEMENTS},
        "all three": partial(MothFlame, improvements=IMPROVEMENTS),
    },
}


def minimum(make: Make, name: str, seed: int, population: int, generations: int, dimensions: int) -> float:
    """Return the least value that an optimiser reaches."""
    function, bound = FUNCTIONS[name]
    optimizer = make([-bound] * dimensions, [bound] * dimensions, population, generations, seed)
    while not optimizer.done:
        optimizer.tell(function(optimizer.ask() - OFFSET * bound))
    return optimizer.best()[1]


def compare(
    group: Mapping[str, Make], seeds: int, population: int, generations: int, dimensions: int
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return the minima of each optimiser for each function, one per seed."""
    size = (population, generations, dimensions)
    return {
        name: {
            label: np.array([minimum(make, name, seed, *size) for seed in range(seeds)])
            for label, make in group.items()
        }
        for name in FUNCTIONS
    }


def print_table(results: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> None:
    """Print a table: mean (standard deviation), and in how many seeds the value is less than the first optimiser's."""
    labels = list(next(iter(results.values())))
    print(f"| function | {' | '.join(labels)} |\n|---|{'---|' * len(labels)}")
    for name, minima in results.items():
        first = minima[labels[0]]
        cells = []
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
        "least value (standard deviation, in how many seeds it is less than the first one's)"
    )
    print_table(compare(GROUPS[chosen.pop("group")], **chosen))


if __name__ == "__main__":
    main()
