"""What a candidate of the paper's search costs (1000 nodes, last state, 5000 + 2000 rows of 28 x 28), and why.

    python benchmarks/search_candidate.py [--candidates 5] [--kernel dense-bf16] [--nodes 1000]

Times are processor seconds of one thread, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np
import torch

import rcdp_hpc.search.fitness as module
from rcdp_hpc.config import parse_config
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.data import FitnessData


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=5)
    parser.add_argument("--kernel", default="dense-bf16")
    parser.add_argument("--nodes", type=int, default=1000)
    chosen = parser.parse_args()
    generator = np.random.default_rng(0)
    x = generator.random((7000, 28, 28), dtype=np.float32)
    y = np.arange(7000) % 10
    data = FitnessData(x[:5000], y[:5000], x[5000:], y[5000:], 10)
    tree = {"reservoir": {"nodes": chosen.nodes, "kernel": chosen.kernel}, "search": {"density_weight": 1.0}}
    spent: dict[str, float] = defaultdict(float)

    def timed(name, function):
        def call(*arguments, **options):
            started = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent[name] += time.process_time() - started

        return call

    torch.mm = timed("matrix products of the states", torch.mm)
    module.Reservoir.states = timed("states in all", module.Reservoir.states)
    module.GramSums.add = timed("Gram sums", module.GramSums.add)
    module.solve = timed("Cholesky", module.solve)
    module.MatrixCache.matrices = timed("matrices and eigenvalues", module.MatrixCache.matrices)
    with limit_threads(1):
        fitness = module.ReservoirFitness(parse_config(tree, "(of a benchmark)"), data)
        values = {"spectral_radius": 0.9, "input_scaling": 0.5, "leak": 1.0}
        fitness({**values, "density": 0.1})
        spent.clear()
        started = time.process_time()
        for density in generator.uniform(0.01, 0.3, chosen.candidates):
            fitness({**values, "density": float(density)})
        total = time.process_time() - started
    print(f"{total / chosen.candidates:.2f} core-seconds a candidate ({chosen.kernel}, {chosen.nodes} nodes)")
    spent["rest of the states"] = spent.pop("states in all") - spent["matrix products of the states"]
    spent["everything else"] = total - sum(spent.values())
    for name, seconds in sorted(spent.items(), key=lambda pair: -pair[1]):
        print(f"  {name}: {seconds / chosen.candidates:.3f} s, {seconds / total:.0%}")


if __name__ == "__main__":
    main()
