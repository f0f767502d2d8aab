"""The objective of search_scaling.py under mealpy's process mode and under Propulate, on two workers.

    python -m venv PEERS && PEERS/bin/pip install mealpy==3.0.3 propulate==1.2.2 mpi4py
    PEERS/bin/python benchmarks/search_peers.py mealpy
    mpirun -n 2 PEERS/bin/python benchmarks/search_peers.py propulate
    python benchmarks/search_scaling.py --ranks 2

Efficiency is the time that candidates slept over wall time times workers. It runs in an environment of the peers' own
and imports nothing of this package.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time

LOW, HIGH = [0.01, 0.3, -1.3, 0.3], [0.5, 1.3, 0.3, 1.0]
POPULATION, GENERATIONS, WORKERS = 50, 3, 2


def seconds_of(density: float, mean: float = 0.5) -> float:
    return mean * (0.75 + 0.5 * (density - 0.01) / 0.49)


def error_of(density: float, leak: float) -> float:
    time.sleep(seconds_of(density))
    return (density - 0.2) ** 2 + (leak - 0.6) ** 2 + 0.01


def objective(position) -> float:
    return error_of(position[0], position[3])


def by_mealpy() -> None:
    from mealpy import FloatVar
    from mealpy.swarm_based.MFO import OriginalMFO

    problem = {"obj_func": objective, "bounds": FloatVar(lb=LOW, ub=HIGH), "minmax": "min", "log_to": None}
    os.cpu_count = lambda: WORKERS + 1  # it refuses as many workers as there are cores
    model = OriginalMFO(epoch=GENERATIONS, pop_size=POPULATION)
    started = time.perf_counter()
    model.solve(problem, mode="process", n_workers=WORKERS, seed=1)
    wall = time.perf_counter() - started
    # one round for the population before the first epoch; every candidate asked for counts as half a second
    tell("mealpy 3.0.3, process mode", POPULATION * (GENERATIONS + 1) * 0.5, wall)
    print("  seconds per epoch:", [round(one, 2) for one in model.history.list_epoch_time])


def by_propulate() -> None:
    from mpi4py import MPI
    from propulate import Propulator
    from propulate.utils import get_default_propagator

    comm = MPI.COMM_WORLD
    slept = 0.0

    def loss(individual) -> float:
        nonlocal slept
        slept += seconds_of(individual["density"])
        return error_of(individual["density"], individual["leak"])

    limits = dict(zip(("density", "radius", "scaling", "leak"), zip(LOW, HIGH, strict=True), strict=True))
    rng = random.Random(1 + comm.rank)
    with tempfile.TemporaryDirectory() as folder:
        search = Propulator(
            loss_fn=loss, propagator=get_default_propagator(pop_size=POPULATION, limits=limits, rng=rng), rng=rng,
            island_comm=comm, generations=POPULATION * GENERATIONS // comm.size, checkpoint_path=folder,
        )  # fmt: skip
        comm.Barrier()
        started = time.perf_counter()
        search.propulate(logging_interval=1000, debug=0)
        comm.Barrier()
        wall = time.perf_counter() - started
    total = comm.allreduce(slept)
    if comm.rank == 0:
        tell("propulate 1.2.2", total, wall)


def tell(name: str, slept: float, wall: float) -> None:
    print(f"{name}: {slept:.1f} s of candidates in {wall:.1f} s on {WORKERS} workers: {slept / (wall * WORKERS):.1%}")


if __name__ == "__main__":
    by_mealpy() if sys.argv[1] == "mealpy" else by_propulate()
