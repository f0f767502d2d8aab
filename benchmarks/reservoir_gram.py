"""Cost of Gram sums compared with states alone, by BLAS and by torch; of the spectral radius of a large matrix."""

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
from rcdp_hpc.reservoir.device_sums import DeviceSums, make_sums, sums_device
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.left_out import left_out
from rcdp_hpc.reservoir.ridge import solve
from rcdp_hpc.reservoir.spectral_radius import spectral_radius
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.reservoir.stream import bound_of_sums

CLASSES = 10
STATES = (1, 3)
# Rows of the comparison of BLAS and torch.
SUMMED_ROWS, LEFT_OUT_ROWS = 16_384, 2000
PENALTY, PENALTIES = 1e-3, [1e-5, 1e-3, 1e-1]


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
    work: dict[str, Callable[[], GramSums | DeviceSums | None]] = {"states alone": lambda: _states(reservoirs[1], x)}
    work |= {
        f"with sums of {count * nodes} features": lambda each=each: _sums(each, x, y)
        for count, each in reservoirs.items()
    }
    seconds, memory = dict.fromkeys(work, float("inf")), dict.fromkeys(work, 0.0)
    results: dict[str, GramSums | DeviceSums | None] = {}
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
    _wait(reservoir.device)


def _sums(reservoir: Reservoir, x: np.ndarray, y: np.ndarray) -> GramSums | DeviceSums:
    bound = bound_of_sums(reservoir.settings.activation, len(x))
    sums = make_sums(reservoir.width, CLASSES, "single", bound, device=sums_device(reservoir.device))
    for rows, states in _blocks(reservoir, x):
        sums.add_labelled(states, torch.from_numpy(y[rows].astype(np.int64)))
    sums.flush()
    _wait(reservoir.device)
    return sums


def backends(features: int, turns: int) -> None:
    """Print milliseconds of sums and solutions by BLAS, and by torch on the GPU, or on the CPU without one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.tanh(torch.randn(SUMMED_ROWS, features, generator=torch.Generator().manual_seed(0)))
    y = torch.arange(SUMMED_ROWS) % CLASSES
    print(f"\n{SUMMED_ROWS} rows, {features} features, {CLASSES} classes; torch on {device}")
    print("| work | BLAS, ms | torch, ms | torch / BLAS | largest difference of the weights |\n|---|---|---|---|---|")
    for precision, dtype in (("double", torch.float32), ("single", torch.float32), ("single", torch.bfloat16)):
        made = [(where, x.to(where or "cpu", dtype), y.to(where or "cpu")) for where in (None, device)]
        sums = [make_sums(features, CLASSES, precision, float(SUMMED_ROWS), device=where) for where, _, _ in made]

        def add(number: int, made: list = made, sums: list = sums) -> None:
            sums[number].clear()
            sums[number].add_labelled(*made[number][1:])
            sums[number].flush()

        name = f"sums, precision {precision}, {str(dtype).removeprefix('torch.')}"
        seconds = _in_turns(add, turns, device)
        readouts = [solve(one, PENALTY) for one in sums]
        _print_pair(name, seconds, readouts[0].weights, readouts[1].weights)
    seconds = _in_turns(lambda number: solve(sums[number], PENALTY), turns, device)
    _print_pair("Cholesky and solution", seconds, readouts[0].weights, readouts[1].weights)
    few = [(x[:LEFT_OUT_ROWS].to(where or "cpu"), where) for where in (None, device)]
    fits = [left_out(states, y[:LEFT_OUT_ROWS], CLASSES, PENALTIES, device=where) for states, where in few]

    def fit(number: int) -> None:
        left_out(few[number][0], y[:LEFT_OUT_ROWS], CLASSES, PENALTIES, device=few[number][1])

    seconds = _in_turns(fit, turns, device)
    _print_pair(f"leave-one-out of {LEFT_OUT_ROWS} rows", seconds, *(one.readout.weights for one in fits))


def _in_turns(work: Callable[[int], object], turns: int, device: torch.device) -> list[float]:
    """Return the median seconds of `work(0)` and `work(1)`, which run in turns."""
    seconds: list[list[float]] = [[], []]
    for number in [0, 1] * (turns + 1):
        started = time.perf_counter()
        work(number)
        _wait(device)
        seconds[number].append(time.perf_counter() - started)
    return [float(np.median(one[1:])) for one in seconds]


def _print_pair(name: str, seconds: list[float], weights: np.ndarray, others: np.ndarray) -> None:
    difference = np.abs(weights - others).max() / np.abs(weights).max()
    blas, by_torch = (1000 * one for one in seconds)
    print(f"| {name} | {blas:.1f} | {by_torch:.1f} | {by_torch / blas:.2f} | {difference:.1e} |", flush=True)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _accuracy(sums: GramSums | DeviceSums, reservoir: Reservoir, x: np.ndarray, y: np.ndarray) -> float:
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
