"""Successive halving beside judging all candidates by all rows, with as many rows in all: mean and spread over seeds.

    rcdp prepare mnist --out RUN --set data.path=FOLDER
    python benchmarks/search_halving.py RUN [--seeds 10] [--population 10] [--generations 10] [--factor 3] [--steps 2]

The reduced fitness of search_optimizers.py, moth-flame. A halved generation has so many more candidates that the shares
of rows add up to the same number; candidates known from earlier count as if they were evaluated, with and without.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from search_optimizers import reduced

from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.rows import fitness_rows
from rcdp_hpc.search.halving import Halving, comparable
from rcdp_hpc.search.optimizers import MothFlame
from rcdp_hpc.search.records.archive import Entry, EvaluationArchive
from rcdp_hpc.search.space import Space, searched_space


class Known:
    """Evaluations by values and share, for all seeds together."""

    def __init__(self, fitness: ReservoirFitness, space: Space) -> None:
        self.fitness, self.space, self.found = fitness, space, {}

    def __call__(self, values: np.ndarray, share: float) -> Evaluation:
        key = (values.tobytes(), share)
        if key not in self.found:
            self.found[key] = self.fitness.set_share(share)(self.space.named(values))
        return self.found[key]


def best_found(known: Known, halving: Halving, population: int, generations: int, seed: int) -> float:
    """Return the best fitness, by all rows, that a search finds."""
    search, memory = MothFlame(known.space.lower, known.space.upper, population, generations, seed), EvaluationArchive()
    while not search.done:
        values, generation = known.space.decode_rows(search.ask()), search.generation
        rows, share = halving.due(values, memory)
        while rows:
            for row in rows:
                memory.add(Entry(generation, row, values[row], known(values[row], share), share))
            rows, share = halving.due(values, memory)
        search.tell(-comparable(halving.judged(values, memory)))
    return memory.best().evaluation.fitness


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
    fitness = ReservoirFitness(config, fitness_rows(ShardSet(run.shards, verify=False), config, SingleProcess()))
    known, started = Known(fitness, space), time.monotonic()
    more = round(chosen.population * chosen.factor**chosen.steps / (chosen.steps + 1))
    cases = [("all by all rows", Halving(), chosen.population), ("halved", Halving(chosen.factor, chosen.steps), more)]
    found = {}
    with limit_threads(1):
        for label, halving, population in cases:
            found[label] = np.array(
                [best_found(known, halving, population, chosen.generations, seed) for seed in range(chosen.seeds)]
            )
    print(f"{chosen.seeds} seeds, {chosen.generations} generations, {time.monotonic() - started:.0f} s")
    for label, _, population in cases:
        one = found[label]
        print(f"{label}, {population} a generation: {one.mean():.4f} ({one.std(ddof=1):.4f})")
    whole, halved = found.values()
    print(f"halved is better in {np.sum(halved > whole)} of {chosen.seeds} seeds")


if __name__ == "__main__":
    main()
