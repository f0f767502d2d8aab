"""Scaling of the search over ranks: measured for 1 to 4 ranks, and predicted by a model for 8 to 4,096.

    python benchmarks/search_scaling.py [--population 50] [--seconds 0.5] [--ranks 1 2 3 4] [--out docs]

Candidates sleep, so that more ranks than cores still show the costs of the search itself: rank 0's own work (optimiser,
archive, history, checkpoint) and communication. Half of the sleeping time varies with the density, as the time for
eigenvalues does. docs/search-reference.md has the model and its assumptions.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.search.evaluation.base import Fitness
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.records.efficiency import read_usage
from rcdp_hpc.search.scheduling import assign_longest_first, choose_group_ranks

SPREAD = 0.5  # difference of the seconds between the greatest and the least density, as a share of their mean
PARALLEL_SHARE = 0.8  # share of a candidate that a group divides


def configuration(population: int, generations: int) -> Config:
    space = {
        "density": {"low": 0.01, "high": 0.5},
        "spectral_radius": {"low": 0.3, "high": 1.3},
        "input_scaling": {"low": 0.05, "high": 2.0, "log": True},
        "leak": {"low": 0.3, "high": 1.0},
    }
    settings = {"population": population, "generations": generations, "space": space}
    return parse_config({"run": {"progress": False}, "search": settings}, "(of a benchmark)")


def seconds_of(density: np.ndarray | float, mean: float) -> np.ndarray | float:
    return mean * (1 - SPREAD / 2 + SPREAD * (density - 0.01) / 0.49)


def worker(folder: str, population: int, generations: int, mean: float) -> None:
    """Run one rank of a measured search."""
    from rcdp_hpc.runtime.comm.connect import connect
    from rcdp_hpc.search.driver import run_search

    class Sleeping(Fitness):
        def __call__(self, values):
            started = time.perf_counter()
            time.sleep(seconds_of(values["density"], mean))
            error = (values["density"] - 0.2) ** 2 + (values["leak"] - 0.6) ** 2 + 0.01
            return Evaluation(1 / error, error, 1 - error, time.perf_counter() - started)

    run_search(configuration(population, generations), connect(), Sleeping(), Path(folder))


def measure(ranks: int, population: int, generations: int, mean: float) -> list[dict[str, float]]:
    """Run a search on real ranks and return its generations.jsonl."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--worker", folder, *map(str, (population, generations, mean))]
        launch = ["mpirun", "-n", str(ranks), "--oversubscribe", "--bind-to", "none"]
        env = {**os.environ, "OMPI_MCA_mpi_yield_when_idle": "1", "OMP_NUM_THREADS": "1"}
        subprocess.run([*launch, *command], check=True, env=env)
        usages = read_usage(Path(folder))
    return [{"wall": u.wall, "busy": u.busy, "slowest": u.slowest, "candidates": u.candidates} for u in usages]


def model_wall(costs: np.ndarray, ranks: int, root: float, latency: float, group: int = 1) -> float:
    """Return the seconds of a generation: the slowest worker, rank 0's own work, and communication.

    wall = max over workers of the sum of their candidates' T_g + r·N + c·log2(P)
    """
    workers = max(1, ranks // group)
    divided = costs * (1 - PARALLEL_SHARE + PARALLEL_SHARE / group + 0.01 * (group - 1))
    slowest = max(divided[candidates].sum() for candidates in assign_longest_first(divided, workers))
    return float(slowest + root * len(costs) + latency * np.log2(max(ranks, 1) * 1.0))


def fit(measured: dict[int, list[dict[str, float]]]) -> tuple[float, float]:
    """Return (r, c): seconds of rank 0 per candidate, and seconds of communication per doubling of ranks."""
    rows, rest = [], []
    for ranks, generations in measured.items():
        for one in generations[1:]:
            rows.append([one["candidates"], np.log2(ranks)])
            rest.append(one["wall"] - one["slowest"])
    from scipy.optimize import nnls

    (root, latency), _ = nnls(np.array(rows, dtype=float), np.array(rest))
    return float(root), float(latency)


def predict(population: int, mean: float, root: float, latency: float) -> list[dict[str, float]]:
    density = np.random.default_rng(0).uniform(0.01, 0.5, population)
    costs = np.asarray(seconds_of(density, mean))
    rows = []
    for ranks in (1, 2, 4, *(2**power for power in range(3, 13))):
        group = choose_group_ranks(population, ranks, PARALLEL_SHARE)
        row = {"ranks": ranks, "group": group}
        for name, size in (("alone", 1), ("grouped", group)):
            wall = model_wall(costs, ranks, root, latency, size)
            row[name] = costs.sum() / (wall * ranks)
            row[f"{name}_speedup"] = costs.sum() / wall
        rows.append(row)
    return rows


def plot(predicted: list[dict[str, float]], efficiency: dict[int, float], population: int, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    ranks = [row["ranks"] for row in predicted]
    axes.semilogx(ranks, [row["alone"] for row in predicted], "o-", base=2, label="model, one rank per candidate")
    axes.semilogx(ranks, [row["grouped"] for row in predicted], "s-", base=2, label="model, groups of ranks")
    axes.semilogx(list(efficiency), list(efficiency.values()), "kx", base=2, markersize=9, label="measured")
    axes.set(xlabel="ranks", ylabel="busy time / (wall time x ranks), useful work", ylim=(0, 1.05))
    axes.set_title(f"population {population}; a group divides {PARALLEL_SHARE:.0%} of a candidate")
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--population", type=int, default=50)
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("docs"))
    chosen = parser.parse_args()
    measured = {ranks: measure(ranks, chosen.population, chosen.generations, chosen.seconds) for ranks in chosen.ranks}
    root, latency = fit(measured)
    print(f"model: r = {root * 1e3:.3g} ms per candidate on rank 0, c = {latency * 1e3:.3g} ms per doubling of ranks")
    efficiency = {}
    for ranks, generations in measured.items():
        later = generations[1:]  # the first waits for the ranks to start
        wall, busy = sum(one["wall"] for one in later), sum(one["busy"] for one in later)
        slowest = sum(one["slowest"] for one in later)
        modelled = sum(one["slowest"] + root * one["candidates"] + latency * np.log2(ranks) for one in later)
        efficiency[ranks] = busy / (wall * ranks)
        print(
            f"{ranks} ranks: {wall / len(later):.3f} s per generation, model {modelled / len(later):.3f} s "
            f"({modelled / wall - 1:+.2%}); efficiency {efficiency[ranks]:.1%}, imbalance "
            f"{1 - busy / (slowest * ranks):.1%}, rank 0 and communication {1 - slowest / wall:.2%}"
        )
    predicted = predict(chosen.population, chosen.seconds, root, latency)
    for row in predicted:
        print(
            f"{row['ranks']:5} ranks: efficiency {row['alone']:.1%} (speed-up {row['alone_speedup']:.1f}), in "
            f"groups of {row['group']} {row['grouped']:.1%} (speed-up {row['grouped_speedup']:.1f})"
        )
    plot(predicted, efficiency, chosen.population, chosen.out / "images" / "search-scaling.png")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    else:
        main()
