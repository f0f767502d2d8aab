"""Folds within the fitness: from one pass, each balanced separately, and one split, on the same candidates.

    rcdp prepare CONFIG --out RUN
    python benchmarks/search_folds.py RUN [--folds 5] [--candidates 8] [--seeds 5] [--set KEY=VALUE] ...

Candidates are drawn from the search space of RUN. Every way evaluates a candidate right after the others, in an order
that rotates. Times are processor seconds of one thread, so that other load on the machine has little effect, and ratios
are medians over candidates. Every seed draws folds and candidates of its own. The loss is what the candidate chosen
from one pass has less in the fitness of separately balanced folds than the candidate which that chooses.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy.stats import spearmanr

from rcdp_hpc.config import Config, load_config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.rows import FitnessData, fitness_rows
from rcdp_hpc.search.space import searched_space, with_values

WAYS = ("one split", "one pass", "separate")


def with_settings(config: Config, seed: int, folds: int) -> Config:
    """Return the settings of one way."""
    run, search = config.run.model_copy(update={"seed": seed}), config.search.model_copy(update={"folds": folds})
    return config.model_copy(update={"run": run, "search": search})


def rows_of(shards: ShardReader, config: Config, way: str) -> FitnessData:
    """Return the rows of the fitness, with folds of a kind."""
    if way != "separate":
        return fitness_rows(shards, config, SingleProcess())
    with patch("rcdp_hpc.search.evaluation.rows.uses_one_pass", lambda config: False):
        return fitness_rows(shards, config, SingleProcess())


@dataclass
class Measured:
    """Seconds and evaluations, shape (candidates, ways)."""

    seconds: np.ndarray
    fitness: np.ndarray
    accuracy: np.ndarray


def measure(shards: ShardReader, config: Config, folds: int, candidates: int, seed: int) -> Measured:
    """Evaluate candidates in every way."""
    space = searched_space(config.search)
    coordinates = np.random.default_rng(seed).uniform(space.lower, space.upper, (candidates, len(space.lower)))
    settings = [with_settings(config, seed, 1 if way == "one split" else folds) for way in WAYS]
    fitness = [ReservoirFitness(one, rows_of(shards, one, way)) for one, way in zip(settings, WAYS, strict=True)]
    seconds = np.zeros((candidates, len(WAYS)))
    found: dict[tuple[int, int], Evaluation] = {}
    for number, row in enumerate(space.decode_rows(coordinates)):
        values = space.named(row)
        for turn in range(len(WAYS)):
            place = (number + turn) % len(WAYS)
            one = fitness[place]
            # The spectral radius, which all ways need, is cached before the time is taken.
            one.source(with_values(settings[place], values))
            started = time.process_time()
            found[number, place] = one(values)
            seconds[number, place] = time.process_time() - started
    numbers = range(candidates), range(len(WAYS))
    values = [[(found[c, w].fitness, found[c, w].accuracy) for w in numbers[1]] for c in numbers[0]]
    return Measured(seconds, *np.moveaxis(np.array(values), 2, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    for name, default in (("folds", 5), ("candidates", 8), ("seeds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--set", action="append", default=[], help="setting that differs from that of RUN")
    chosen = parser.parse_args()
    run = RunDirectory(chosen.run)
    config = load_config(str(run.config_file), chosen.set)
    shards = ShardReader(run.shards, verify=False)
    with limit_threads(1):
        results = [measure(shards, config, chosen.folds, chosen.candidates, seed) for seed in range(chosen.seeds)]
    seconds = np.concatenate([one.seconds for one in results])
    for place, way in enumerate(WAYS):
        ratio = np.median(seconds[:, place] / seconds[:, 0])
        print(f"{way}: {np.median(seconds[:, place]):.3f} s a candidate, {ratio:.2f} times one split")
    agreement = [spearmanr(one.fitness[:, 1], one.fitness[:, 2]).statistic for one in results]
    print(f"rank correlation of the fitness, one pass and separate: {np.mean(agreement):.3f}")
    losses = [one.fitness[:, 2].max() - one.fitness[one.fitness[:, 1].argmax(), 2] for one in results]
    points = [
        100 * (one.accuracy[one.fitness[:, 2].argmax(), 2] - one.accuracy[one.fitness[:, 1].argmax(), 2])
        for one in results
    ]
    best = np.mean([one.fitness[:, 2].max() for one in results])
    same = sum(one.fitness[:, 1].argmax() == one.fitness[:, 2].argmax() for one in results)
    print(f"the same candidate is chosen in {same} of {chosen.seeds} seeds")
    print(f"fitness that the other choice loses: {np.mean(losses):.3f} of {best:.3f}, {np.mean(points):.2f} points")


if __name__ == "__main__":
    main()
