"""The optimisers of mealpy, NiaPy and this package on the same functions with the same number of evaluations.

    python -m venv PEERS
    PEERS/bin/pip install mealpy==3.0.3 niapy==2.0.5 tomlkit pydantic psutil tqdm threadpoolctl
    PYTHONPATH=. PEERS/bin/python benchmarks/mfo_peers.py [mfo|woa|avoa|pso|ga ...] [--seeds 20] [--population 30]
        [--generations 100] [--dimensions 10]

mealpy needs NumPy below 2 and therefore an environment of its own, with the packages that this one imports. The peers
evaluate a first population before their generations, so they get one generation less. They use their default
parameters.
"""

from __future__ import annotations

import argparse

import numpy as np
from mealpy import FloatVar
from mealpy.evolutionary_based.GA import BaseGA
from mealpy.swarm_based.AVOA import OriginalAVOA
from mealpy.swarm_based.MFO import OriginalMFO
from mealpy.swarm_based.PSO import LDW_PSO, OriginalPSO
from mealpy.swarm_based.WOA import OriginalWOA
from mfo_functions import FUNCTIONS, OFFSET, minimum
from niapy.algorithms import Algorithm
from niapy.algorithms.basic import GeneticAlgorithm, MothFlameOptimizer, ParticleSwarmAlgorithm
from niapy.problems import Problem
from niapy.task import Task
from numpy.typing import NDArray

from rcdp_hpc.config.choices import SEARCH_OPTIMIZERS
from rcdp_hpc.runtime.user_code import load_choice

PEERS = {
    "mfo": {"mealpy OriginalMFO": OriginalMFO, "NiaPy MothFlameOptimizer": MothFlameOptimizer},
    "woa": {"mealpy OriginalWOA": OriginalWOA},
    "avoa": {"mealpy OriginalAVOA": OriginalAVOA},
    "pso": {
        "mealpy OriginalPSO": OriginalPSO,
        "mealpy LDW_PSO": LDW_PSO,
        "NiaPy ParticleSwarmAlgorithm": ParticleSwarmAlgorithm,
    },
    "ga": {"mealpy BaseGA": BaseGA, "NiaPy GeneticAlgorithm": GeneticAlgorithm},
}


class Counted:
    """A function with its minimum moved, its number of calls and its least value so far."""

    def __init__(self, name: str) -> None:
        self.function, self.bound = FUNCTIONS[name]
        self.count = 0
        self.least = np.inf

    def __call__(self, position: NDArray[np.float64]) -> float:
        value = float(self.function(np.asarray(position, np.float64)[None] - OFFSET * self.bound)[0])
        self.count += 1
        self.least = min(self.least, value)
        return value


def by_mealpy(kind: type, objective: Counted, seed: int, population: int, generations: int, dimensions: int) -> None:
    bounds = FloatVar(lb=[-objective.bound] * dimensions, ub=[objective.bound] * dimensions)
    problem = {"obj_func": objective, "bounds": bounds, "minmax": "min", "log_to": None}
    kind(epoch=generations - 1, pop_size=population).solve(problem, seed=seed)


def by_niapy(kind: type, objective: Counted, seed: int, population: int, generations: int, dimensions: int) -> None:
    class Moved(Problem):
        def _evaluate(self, position: NDArray[np.float64]) -> float:
            return objective(position)

    task = Task(Moved(dimensions, -objective.bound, objective.bound), max_iters=generations - 1)
    kind(population_size=population, seed=seed).run(task)


def peer_minima(kind: type, name: str, seeds: int, *size: int) -> tuple[NDArray[np.float64], int]:
    """Return the least value for each seed, and the greatest number of evaluations."""
    least, count = [], 0
    for seed in range(seeds):
        objective = Counted(name)
        if issubclass(kind, Algorithm):
            by_niapy(kind, objective, seed, *size)
        else:
            by_mealpy(kind, objective, seed, *size)
        least.append(objective.least)
        count = max(count, objective.count)
    return np.array(least), count


def row(label: str, minima: list[NDArray[np.float64]], count: int) -> str:
    cells = " | ".join(f"{one.mean():.3g} ({one.std(ddof=1):.2g})" for one in minima)
    return f"| {label} | {cells} | {count} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("optimizers", nargs="*", choices=list(PEERS), help="default: all")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--population", type=int, default=30)
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--dimensions", type=int, default=10)
    chosen = parser.parse_args()
    size = (chosen.population, chosen.generations, chosen.dimensions)
    print(f"{size[2]} dimensions, {size[0]} x {size[1]} evaluations, seeds 0 to {chosen.seeds - 1}:")
    print("mean of the least value (standard deviation)\n")
    print(f"| optimiser | {' | '.join(FUNCTIONS)} | evaluations |\n|---|{'---|' * (len(FUNCTIONS) + 1)}")
    for key in chosen.optimizers or PEERS:
        kind = load_choice(SEARCH_OPTIMIZERS, key)
        minima = [np.array([minimum(kind, name, seed, *size) for seed in range(chosen.seeds)]) for name in FUNCTIONS]
        print(row(f"**{key}**", minima, size[0] * size[1]), flush=True)
        for label, kind in PEERS[key].items():
            results = [peer_minima(kind, name, chosen.seeds, *size) for name in FUNCTIONS]
            print(row(label, [one for one, _ in results], max(count for _, count in results)), flush=True)


if __name__ == "__main__":
    main()
