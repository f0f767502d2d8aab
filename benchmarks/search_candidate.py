"""A candidate of the paper's search (1000 nodes, last state, 5000 + 2000 rows of 28 x 28), alone and in a batch.

    python benchmarks/search_candidate.py [--candidates 4] [--at-once 4] [--kernel dense-fp32] [--nodes 1000]
                                          [--device cpu|gpu] [--validation]

Densities and leak rates are from the space of benchmarks/paper-search.toml. On a CPU times are processor seconds of one
thread, so that other load on the machine has little effect; on a GPU they are those of the clock, and every part waits
for the GPU. With --validation the validation rows choose the penalty instead of leave-one-out.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir import spectral_radius
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.evaluation import batch, batch_evaluator, batched_left_out, fitness
from rcdp_hpc.search.evaluation.base import Fitness
from rcdp_hpc.search.evaluation.batch import BatchedFitness
from rcdp_hpc.search.evaluation.batched_matrices import BatchedMatrices
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.rows import FitnessData

TRAIN, HELD_OUT = 5000, 2000


class Calls(TorchDispatchMode):
    """Counts torch calls."""

    count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # skipping it would import it, which takes seconds

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        Calls.count += 1
        return function(*arguments, **(options or {}))


class Parts:
    """Seconds of parts, which are functions that are replaced by functions that take the time.

    Parameters
    ----------
    on_gpu : bool
    """

    def __init__(self, on_gpu: bool) -> None:
        self.on_gpu = on_gpu
        self.seconds: dict[str, float] = defaultdict(float)

    def now(self) -> float:
        if not self.on_gpu:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def take(self, part: str, owner: object, *names: str) -> None:
        """Add the seconds of functions of a module or class to a part."""
        for name in names:
            setattr(owner, name, self._timed(part, getattr(owner, name)))

    def _timed(self, part: str, function: Callable) -> Callable:
        def call(*arguments, **options):
            started = self.now()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[part] += self.now() - started

        return call


def data() -> FitnessData:
    generator = np.random.default_rng(0)
    x = generator.random((TRAIN + HELD_OUT, 28, 28), dtype=np.float32)
    y = np.arange(len(x)) % 10
    return FitnessData(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:], 10)


def measure(parts: Parts, measured: Fitness, candidates: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return seconds and torch calls for each candidate, after a first one."""
    step = measured.candidates_at_once
    spectral_radius._radii.clear()
    measured.evaluate([{"density": 0.1, "leak": 0.5}])
    parts.seconds.clear()
    started = parts.now()
    for start in range(0, len(candidates), step):
        for one in measured.evaluate(list(candidates[start : start + step])):
            if one.reason:
                raise RuntimeError(one.reason)
    total = parts.now() - started
    found = {"seconds": total / len(candidates)}
    found |= {f"  {part}": seconds / len(candidates) for part, seconds in parts.seconds.items()}
    found["  everything else"] = (total - sum(parts.seconds.values())) / len(candidates)
    Calls.count = 0
    with Calls():
        measured.evaluate(list(candidates[:step]))
    return {**found, "torch calls": Calls.count / step}


def take_parts(parts: Parts) -> None:
    """Name the parts of candidates, alone and in batches."""
    parts.take("matrices and spectral radius", fitness.MatrixCache, "matrices")
    parts.take("matrices and spectral radius", BatchedMatrices, "weights")
    parts.take("states", fitness.Reservoir, "drive")
    parts.take("states", batch.StackedReservoirs, "drive")
    parts.take("leave-one-out", fitness, "evaluate_left_out")
    parts.take("leave-one-out", batch_evaluator, "evaluate_left_out")
    parts.take("leave-one-out", batched_left_out.BatchedRows, "__init__", "left_out")
    parts.take("sums", fitness, "add_rows")
    parts.take("sums", batch_evaluator.BatchedSums, "add")
    parts.take("solutions and scores", fitness, "evaluate_on_validation")
    parts.take("solutions and scores", batch_evaluator, "best_scores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--kernel", default="dense-fp32")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--validation", action="store_true")
    chosen = parser.parse_args()

    def config(at_once: int) -> Config:
        tree = {
            "reservoir": {"nodes": chosen.nodes, "kernel": chosen.kernel, "spectral_radius": 0.9, "input_scaling": 0.5},
            "search": {"density_weight": 1.0, "device": chosen.device, "candidates_at_once": at_once},
            "readout": {"ridge_selection": "validation" if chosen.validation else "left_out"},
        }
        return parse_config(tree, "(of a benchmark)")

    drawn = np.random.default_rng(1).uniform(0, 1, (chosen.candidates, 2)).tolist()
    candidates = [{"density": 0.01 + 0.49 * density, "leak": 0.3 + 0.7 * leak} for density, leak in drawn]
    parts, rows = Parts(chosen.device == "gpu"), data()
    take_parts(parts)
    with limit_threads(1):
        alone = measure(parts, ReservoirFitness(config(1), rows), candidates)
        together: dict[str, float] = {}
        try:
            batched = BatchedFitness(config(chosen.at_once), rows)
        except InputError as error:
            print(error)
        else:
            together = measure(parts, batched, candidates)
    columns = {"alone": alone} | ({f"{chosen.at_once} at once": together} if together else {})
    print(f"{'for each candidate':<32}" + "".join(f"{name:>13}" for name in columns))
    for part in dict.fromkeys((*alone, *together)):
        form = ".0f" if part == "torch calls" else ".3f"
        print(f"{part:<32}" + "".join(f"{found.get(part, 0.0):>13{form}}" for found in columns.values()))


if __name__ == "__main__":
    main()
