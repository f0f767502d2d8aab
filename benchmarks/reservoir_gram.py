"""Cost of Gram sums compared with states alone, and of the spectral radius of a large matrix."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from reservoir_inputs import FEATURES, STEPS, images, labels
from reservoir_memory import peak_mb, reset_peak
from scipy.sparse.linalg import eigs

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.calibrate import choose_kernel
from rcdp_hpc.reservoir.connection import connection_matrix
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import one_hot, solve
from rcdp_hpc.reservoir.spectral_radius import spectral_radius
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.reservoir.stream import bound_of_sums

CLASSES = 10
STATES = (1, 3)


def gram(nodes: int, density: float, options: argparse.Namespace) -> None:
    """Print seconds and memory of states alone, and of states with sums over them, block by block."""
    x, y = images(options.data, options.images), labels(options.data, options.images)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = ReservoirSection.model_validate(
        {"nodes": nodes, "density": density, "leak": options.leak, "batch_rows": options.rows}
    )
    kernel = options.kernel or choose_kernel(nodes, FEATURES, options.rows, options.threads, device, density)
    print(f"\n{len(x)} images, {STEPS} steps, {nodes} nodes, {kernel}", end=", ")
    print(f"blocks of {options.rows}, {options.threads} threads")
    reservoirs = {
        count: Reservoir(settings.model_copy(update={"states": count}), FEATURES, kernel, device) for count in STATES
    }
    work: dict[str, Callable[[], GramSums | None]] = {"states alone": lambda: _states(reservoirs[1], x)}
    work |= {
        f"with sums of {count * nodes} features": lambda each=each: _sums(each, x, y)
        for count, each in reservoirs.items()
    }
    seconds, memory = dict.fromkeys(work, float("inf")), dict.fromkeys(work, 0.0)
    results: dict[str, GramSums | None] = {}
    for _ in range(options.turns):
        for name, call in work.items():
            results.clear()
            reset_peak()
            started = time.perf_counter()
            results[name] = call()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
            memory[name] = max(memory[name], peak_mb())
    bare = seconds["states alone"]
    print("| work | seconds | relative to states alone | images per second | resident MB |\n|---|---|---|---|---|")
    for name, spent in seconds.items():
        print(f"| {name} | {spent:.3g} | {spent / bare:.2f} | {len(x) / spent:,.0f} | {memory[name]:.0f} |")
    last = results[f"with sums of {STATES[-1] * nodes} features"]
    assert last is not None
    print(f"ridge from the last: {100 * _accuracy(last, reservoirs[STATES[-1]], x, y):.2f} % on rows of the fit")


def _blocks(reservoir: Reservoir, x: np.ndarray) -> Iterator[tuple[slice, torch.Tensor]]:
    for start in range(0, len(x), reservoir.batch_rows):
        rows = slice(start, start + reservoir.batch_rows)
        yield rows, reservoir.states(x[rows].astype(np.float32) / 255)


def _states(reservoir: Reservoir, x: np.ndarray) -> None:
    for _ in _blocks(reservoir, x):
        pass
    if reservoir.device.type == "cuda":
        torch.cuda.synchronize(reservoir.device)


def _sums(reservoir: Reservoir, x: np.ndarray, y: np.ndarray) -> GramSums:
    sums = GramSums(reservoir.width, CLASSES, "single", bound_of_sums(reservoir.settings.activation, len(x)))
    for rows, states in _blocks(reservoir, x):
        sums.add(states, one_hot(y[rows], CLASSES))
    sums.flush()
    return sums


def _accuracy(sums: GramSums, reservoir: Reservoir, x: np.ndarray, y: np.ndarray) -> float:
    readout = solve(sums, 1e-5)
    some = slice(0, 4096)
    labels = [readout.predict(states).argmax(1) for _, states in _blocks(reservoir, x[some])]
    return float((np.concatenate(labels) == y[some]).mean())


def radius(nodes: int, density: float, turns: int) -> None:
    """Print the seconds of a spectral radius, and its relative difference from a much longer computation."""
    settings = ReservoirSection.model_validate({"nodes": nodes, "density": density, "scaling": "weight_scale"})
    started = time.perf_counter()
    matrix = connection_matrix(settings)
    drawn, seconds = time.perf_counter() - started, float("inf")
    for _ in range(turns):
        started = time.perf_counter()
        computed = spectral_radius(matrix)
        seconds = min(seconds, time.perf_counter() - started)
    started = time.perf_counter()
    basis = min(300, nodes - 1)
    values = eigs(matrix, k=min(20, nodes - 3), ncv=basis, tol=1e-13, maxiter=10_000, return_eigenvectors=False)
    expected = float(np.abs(values).max())
    print(
        f"\n{nodes} nodes, density {density:g}: drawn in {drawn:.2f} s, spectral radius in {seconds:.2f} s, "
        f"relative difference {abs(computed - expected) / expected:.1e} from ARPACK with {basis} vectors to 1e-13 "
        f"({time.perf_counter() - started:.1f} s)"
    )
