"""Moth-flame optimisation beside uniform random search on three functions, with equal evaluations.

    python benchmarks/mfo_functions.py [--seeds 20] [--population 30] [--generations 100] [--dimensions 10]

The functions have their least value, 0, away from the middle of the box: an optimiser that is drawn to the
middle gains nothing by it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.search.optimizers import MothFlame, Optimizer, RandomSearch

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]
OFFSET = 0.2  # of the minimum from the middle, as a share of half the box


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


def minimum_found(
    kind: type[Optimizer], name: str, seed: int, population: int, generations: int, dimensions: int
) -> float:
    """Return the least value an optimiser finds."""
    function, bound = FUNCTIONS[name]
    optimizer = kind([-bound] * dimensions, [bound] * dimensions, population, generations, seed)
    while not optimizer.done:
        optimizer.tell(function(optimizer.ask() - OFFSET * bound))
    return optimizer.best()[1]


def compare(
    seeds: int, population: int, generations: int, dimensions: int
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return for each function the minima that MFO and random search find, one per seed."""
    size = (population, generations, dimensions)
    return {
        name: (
            np.array([minimum_found(MothFlame, name, seed, *size) for seed in range(seeds)]),
            np.array([minimum_found(RandomSearch, name, seed, *size) for seed in range(seeds)]),
        )
        for name in FUNCTIONS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--population", type=int, default=30)
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--dimensions", type=int, default=10)
    chosen = vars(parser.parse_args())
    print(
        f"{chosen['dimensions']} dimensions, {chosen['population']} x {chosen['generations']} = "
        f"{chosen['population'] * chosen['generations']} evaluations, seeds 0 to {chosen['seeds'] - 1}: "
        "mean of the least value found (standard deviation; least, greatest)"
    )
    for name, results in compare(**chosen).items():
        for label, minima in zip(("MFO", "random search"), results, strict=True):
            print(
                f"{name:10} {label:14} {minima.mean():10.4g} ({minima.std(ddof=1):.3g}; "
                f"{minima.min():.3g}, {minima.max():.3g})"
            )


if __name__ == "__main__":
    main()
