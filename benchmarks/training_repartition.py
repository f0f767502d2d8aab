"""Cost of a redistribution of rows: seconds of one exchange of states, compared with computing the states.

    mpirun -n 2 python benchmarks/training_repartition.py [--rows 12000] [--nodes 1000]

Images of 28 x 28 random values, read row by row by one reservoir; every rank computes the states of its rows and
then exchanges them for those of other rows, several times. The slowest rank counts. One thread each.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from rcdp_hpc.config import parse_config
from rcdp_hpc.networks.assembly import make_source
from rcdp_hpc.parallel.choose import strategy_for
from rcdp_hpc.runtime.comm.connect import connect
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.partition.repartition import Repartitioner
from rcdp_hpc.training.states.cache import CachedStates

CUTS = 5


def main() -> None:
    """Print one line for each of what is compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=12_000, help="training rows over all ranks")
    parser.add_argument("--nodes", type=int, default=1000, help="neurons; four of the states are kept")
    options = parser.parse_args()
    comm = connect()
    parallel = strategy_for(comm, 600)
    plan = BatchPlan(options.rows, 64, 12, comm.rank, comm.size, seed=1, reshuffle_every=1)
    labels = np.random.default_rng(1).integers(0, 10, options.rows)
    start, stop = plan.local_rows
    config = parse_config({"reservoir": {"nodes": options.nodes, "kernel": "dense-fp32", "batch_rows": 256}}, where="")
    with limit_threads(1):
        reservoir = make_source(config, (28, 28), torch.device("cpu"))
        images = np.random.default_rng(comm.rank).random((stop - start, 28, 28), np.float32)
        states, computed = timed(comm, lambda: torch.cat([reservoir.drive(part) for part in blocks(images, 256)]))
        rows, one = (
            CachedStates(states, torch.from_numpy(labels[start:stop]), start),
            Repartitioner(plan, labels, parallel.engine),
        )
        seconds = []
        for epoch in range(1, CUTS + 1):
            rows, spent = timed(comm, lambda epoch=epoch, rows=rows: one.partition(epoch, rows))
            seconds.append(spent)
    if comm.is_root:
        exchanged, size = statistics.median(seconds), states.numel() * states.element_size() / 2**20
        print(f"{comm.size} ranks, {options.rows} rows of {states.shape[1]} values, {size:.0f} MiB a rank")
        print(f"states computed   {computed:7.2f} s")
        print(f"states exchanged  {exchanged:7.2f} s (median of {CUTS}), {exchanged / computed:.2f} of it")


def blocks(images: np.ndarray, rows: int) -> list[np.ndarray]:
    """Return consecutive parts of so many rows."""
    return [images[low : low + rows] for low in range(0, len(images), rows)]


def timed(comm, work):
    """Return what `work` does, and the seconds of the rank that took longest."""
    comm.barrier()
    started = time.perf_counter()
    result = work()
    return result, float(comm.allreduce(np.array([time.perf_counter() - started]), "max")[0])


if __name__ == "__main__":
    main()
