"""Successive halving against evaluation on all rows, with the same number of rows in all: mean and spread over seeds.

    rcdp prepare mnist --out RUN --set data.path=FOLDER
    python benchmarks/search_halving.py RUN [--seeds 10] [--population 10] [--generations 10] [--factor 3] [--steps 2]

The reduced fitness of search_optimizers.py, with moth-flame. A halved generation has more candidates, so that the
shares of the rows have the same sum. A repeated candidate counts as an evaluation in both cases.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from search_optimizers import reduced

from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.rows import fitness_rows
from rcdp_hpc.search.halving import Halving, comparable_fitness
from rcdp_hpc.search.optimizers.moth_flame import MothFlame
from rcdp_hpc.search.records.archive import Entry, EvaluationArchive
from rcdp_hpc.search.space import Space, searched_space


class CachedFitness:
    """Evaluations by values and share, shared by all seeds."""

    def __init__(self, fitness: ReservoirFitness, space: Space) -> None:
        self.fitness = fitness
        self.space = space
        self.evaluations: dict[tuple[bytes, float], Evaluation] = {}

    def __call__(self, values: np.ndarray, share: float) -> Evaluation:
        key = (values.tobytes(), share)
        if key not in self.evaluations:
            self.evaluations[key] = self.fitness.set_share(share)(self.space.named(values))
        return self.evaluations[key]


def best_fitness(cached: CachedFitness, halving: Halving, population: int, generations: int, seed: int) -> float:
    """Return the best fitness on all rows that a search reaches."""
    space = cached.space
    search = MothFlame(space.lower, space.upper, population, generations, seed)
    archive = EvaluationArchive()
    while not search.done:
        values = space.decode_rows(search.ask())
        rows, share = halving.pending(values, archive)
        while rows:
            for row in rows:
                archive.add(Entry(search.generation, row, values[row], cached(values[row], share), share))
            rows, share = halving.pending(values, archive)
        search.tell(-comparable_fitness(halving.latest(values, archive)))
    return archive.best().evaluation.fitness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    for name, default in (("seeds", 10), ("population", 10), ("generations", 10), ("factor", 3), ("steps", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--rows", type=int, default=1000)
    chosen = parser.parse_args()
    run = RunDirectory(chosen.run)
    config = reduced(run.config(), chosen.nodes, chosen.rows)
    space = searched_space(config.search)
    fitness = ReservoirFitness(config, fitness_rows(ShardReader(run.shards, verify=False), config, SingleProcess()))
    cached = CachedFitness(fitness, space)
    started = time.monotonic()
    more = round(chosen.population * chosen.factor**chosen.steps / (chosen.steps + 1))
    cases = [("all on all rows", Halving(), chosen.population), ("halved", Halving(chosen.factor, chosen.steps), more)]
    results = {}
    with limit_threads(1):
        for label, halving, population in cases:
            results[label] = np.array(
                [best_fitness(cached, halving, population, chosen.generations, seed) for seed in range(chosen.seeds)]
            )
    print(f"{chosen.seeds} seeds, {chosen.generations} generations, {time.monotonic() - started:.0f} s")
    for label, _, population in cases:
        one = results[label]
        print(f"{label}, {population} a generation: {one.mean():.4f} ({one.std(ddof=1):.4f})")
    whole, halved = results.values()
    print(f"halved is better in {np.sum(halved > whole)} of {chosen.seeds} seeds")


if __name__ == "__main__":
    main()
