"""The cost of a candidate of the paper's search (1000 nodes, last state, 5000 + 2000 rows of 28 x 28), and its parts.

    python benchmarks/search_candidate.py [--candidates 5] [--kernel fused-bf16] [--nodes 1000]

Densities and leak rates are from the space of benchmarks/paper-search.toml. Times are processor seconds of one thread,
so that other load on the machine has little effect.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np
import torch

from rcdp_hpc.config import parse_config
from rcdp_hpc.reservoir.kernels.fused import FusedBfloat16
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.evaluation import fitness as module
from rcdp_hpc.search.evaluation import ridge
from rcdp_hpc.search.evaluation.rows import FitnessData


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=5)
    parser.add_argument("--kernel", default="fused-bf16")
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

    # The product of oneDNN includes the activation.
    torch.mm = timed("matrix products of the states", torch.mm)
    FusedBfloat16._product = timed("matrix products of the states", FusedBfloat16._product)
    module.Reservoir.drive = timed("states in all", module.Reservoir.drive)
    module.GramSums.add = timed("Gram sums", module.GramSums.add)
    ridge.solve = timed("Cholesky", ridge.solve)
    module.evaluate_left_out = timed("leave-one-out", module.evaluate_left_out)
    module.MatrixCache.matrices = timed("matrices and eigenvalues", module.MatrixCache.matrices)
    with limit_threads(1):
        fitness = module.ReservoirFitness(parse_config(tree, "(of a benchmark)"), data)
        values = {"spectral_radius": 0.9, "input_scaling": 0.5}
        fitness({**values, "density": 0.1, "leak": 0.5})
        spent.clear()
        started = time.process_time()
        for place in generator.uniform(0, 1, (chosen.candidates, 2)):
            fitness({**values, "density": 0.01 + 0.49 * place[0], "leak": 0.3 + 0.7 * place[1]})
        total = time.process_time() - started
    print(f"{total / chosen.candidates:.2f} core-seconds per candidate ({chosen.kernel}, {chosen.nodes} nodes)")
    spent["rest of the states"] = spent.pop("states in all") - spent["matrix products of the states"]
    spent["everything else"] = total - sum(spent.values())
    for name, seconds in sorted(spent.items(), key=lambda pair: -pair[1]):
        print(f"  {name}: {seconds / chosen.candidates:.3f} s, {seconds / total:.0%}")


if __name__ == "__main__":
    main()
