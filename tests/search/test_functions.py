"""The optimisers against random search: 10 dimensions, 20 seeds, 30 x 100 evaluations each."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from launch import REPOSITORY

# Least ratio of the mean minimum of random search to that of the optimiser; about half of the measured one.
MARGINS = {
    "mfo": {"sphere": 1000, "Rastrigin": 2, "Ackley": 6},
    "woa": {"sphere": 150, "Rastrigin": 5, "Ackley": 2.5},
    "avoa": {"sphere": 1000, "Rastrigin": 100, "Ackley": 6},
    "pso": {"sphere": 600, "Rastrigin": 2, "Ackley": 4},
    "ga": {"sphere": 180, "Rastrigin": 2.5, "Ackley": 3},
    "sobol": {"sphere": 0.7, "Rastrigin": 0.7, "Ackley": 0.7},
}
SIZE = {"seeds": 20, "population": 30, "generations": 100, "dimensions": 10}


@pytest.fixture(scope="module")
def program():
    """Return the program that measures the figures of docs/search-optimizers.md."""
    spec = importlib.util.spec_from_file_location("mfo_functions", REPOSITORY / "benchmarks" / "mfo_functions.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


@pytest.fixture(scope="module")
def at_random(program):
    """Return the minima of random search for each function, one per seed."""
    return program.compare({"random": program.OPTIMIZERS["random"]}, **SIZE)


def test_every_optimiser_has_its_margins(program):
    assert {*MARGINS, "random"} == set(program.OPTIMIZERS)


@pytest.mark.parametrize("key", list(MARGINS))
def test_an_optimiser_finds_less_than_random_search(program, at_random, key):
    found = program.compare({key: program.OPTIMIZERS[key]}, **SIZE)
    assert found.keys() == MARGINS[key].keys()
    for name, minima in found.items():
        assert np.all(minima[key] >= 0)
        assert np.mean(minima[key]) * MARGINS[key][name] < np.mean(at_random[name]["random"]), name
