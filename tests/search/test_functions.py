"""MFO beside random search: 10 dimensions, 20 seeds, 30 x 100 evaluations each."""

from __future__ import annotations

import importlib.util

import numpy as np
from launch import REPOSITORY


def test_moth_flame_finds_less_than_random_search():
    spec = importlib.util.spec_from_file_location("mfo_functions", REPOSITORY / "benchmarks" / "mfo_functions.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    results = benchmark.compare(benchmark.GROUPS["random"], seeds=20, population=30, generations=100, dimensions=10)
    margin = {"sphere": 100, "Rastrigin": 2, "Ackley": 5}
    assert results.keys() == margin.keys()
    for name, minima in results.items():
        by_moths, at_random = minima.values()
        assert np.mean(by_moths) * margin[name] < np.mean(at_random), name
        assert np.all(by_moths >= 0)
