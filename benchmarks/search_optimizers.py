"""All optimisers on a reduced fitness of a prepared run, with equal evaluations: mean, spread and rank over seeds.

    rcdp prepare mnist --out RUN --set data.path=FOLDER
    python benchmarks/search_optimizers.py RUN [--seeds 10] [--population 10] [--generations 10]

The reservoir has 100 nodes and the fitness 1000 + 500 rows, so that a candidate takes hundredths of a second; the seed
of the reservoir is constant, the seed of the optimiser changes. A repeated candidate counts as an evaluation.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from rcdp_hpc.config import Config, parse_config, to_tree
from rcdp_hpc.config.choices import SEARCH_OPTIMIZERS
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.runtime.user_code import load_choice
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.rows import fitness_rows
from rcdp_hpc.search.space import searched_space

SPACE = {
    "density": {"low": 0.01, "high": 0.5},
    "spectral_radius": {"low": 0.3, "high": 2.0},
    "input_scaling": {"low": 0.05, "high": 2.0, "log": True},
    "leak": {"low": 0.1, "high": 1.0},
}


def reduced(config: Config, nodes: int, rows: int) -> Config:
    tree = to_tree(config)
    tree["reservoir"].update(nodes=nodes, kernel="dense-fp32", states=1, sequence="rows", scaling="spectral_radius")
    tree["search"].update(train_rows=rows, validation_rows=rows // 2, space=SPACE, evaluation="ridge", fitness="eq5")
    return parse_config(tree, "(of a benchmark)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--population", type=int, default=10)
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--rows", type=int, default=1000)
    chosen = parser.parse_args()
    run = RunDirectory(chosen.run)
    config = reduced(run.config(), chosen.nodes, chosen.rows)
    space = searched_space(config.search)
    fitness = ReservoirFitness(config, fitness_rows(ShardReader(run.shards, verify=False), config, SingleProcess()))
    fitness_of: dict[bytes, float] = {}
    names = SEARCH_OPTIMIZERS.names
    best = np.empty((len(names), chosen.seeds))
    started = time.monotonic()
    with limit_threads(1):
        for row, name in enumerate(names):
            for seed in range(chosen.seeds):
                search = load_choice(SEARCH_OPTIMIZERS, name)(
                    space.lower, space.upper, chosen.population, chosen.generations, seed
                )
                while not search.done:
                    values = space.decode_rows(search.ask())
                    for one in values:
                        if one.tobytes() not in fitness_of:
                            fitness_of[one.tobytes()] = fitness(space.named(one)).fitness
                    search.tell([-fitness_of[one.tobytes()] for one in values])
                best[row, seed] = -search.best()[1]
    ranks = rankdata(-best, axis=0)
    print(
        f"{chosen.seeds} seeds of {chosen.population} x {chosen.generations} evaluations, {chosen.nodes} nodes, "
        f"{chosen.rows} + {chosen.rows // 2} rows, {time.monotonic() - started:.0f} s"
    )
    print("| optimiser | mean fitness | standard deviation | least | greatest | mean rank |\n|---|---|---|---|---|---|")
    for row in np.argsort(ranks.mean(axis=1)):
        one = best[row]
        print(
            f"| {names[row]} | {one.mean():.4f} | {one.std(ddof=1):.4f} | {one.min():.4f} | {one.max():.4f} "
            f"| {ranks[row].mean():.2f} |"
        )


if __name__ == "__main__":
    main()
