"""Searches on the first ranks of seven, one after the other in one job, since starting a job takes longer than most.

Ranks without a part in a search sleep instead of waiting in a collective, which would take cores from the others.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from search.fake_fitness import CheapFitness, cheap_config
from search.group_search import Interrupted, architecture_config, small_config, small_data

from rcdp_hpc.errors import RcdpError, StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.connect import connect
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.records import checkpoint as checkpoints

HALVING = {"halving": 2, "halving_steps": 2}
# Ranks, and ranks that evaluate a candidate together.
COMBINATIONS = ((1, 1), (2, 1), (2, 2), (3, 1), (3, 3), (4, 1), (4, 2), (7, 1), (7, 3))
ARCHITECTURES = ((1, 1), (3, 1), (3, 3))
AUTOMATIC = (3, 0)  # rank 0 chooses the group size
STOPPED = "stopped.npz"  # a copy of the checkpoint at the stop


def on_first(comm: Communicator, ranks: int, done: Path, work: Callable[[Communicator], object]) -> None:
    """Run the work on the first ranks; the others wait for a file."""
    part = comm.split(int(comm.rank < ranks))
    if comm.rank < ranks:
        work(part)
        part.barrier()
        done.touch()
    while not done.exists():
        time.sleep(0.02)


def grouped(folder: Path, group_ranks: int, evaluation: str, stop: bool = False) -> Callable[[Communicator], None]:
    """Return a search over small reservoirs, optionally stopped during its second generation."""

    def work(part: Communicator) -> None:
        config = small_config(group_ranks=group_ranks, evaluation=evaluation)
        # With three workers rank 0 may have a single candidate, so the stop comes before it.
        several = part.size // max(group_ranks, 1) <= 2
        fitness = Interrupted(config, small_data(), (2, int(several)) if stop and part.is_root else None)
        try:
            run_search(config, part, fitness, folder)
        except StoppedError:
            assert stop
            signals.clear()
            if part.is_root:
                shutil.copy(folder / checkpoints.NAME, folder / STOPPED)
        else:
            assert not stop

    return work


def architecture(folder: Path, group_ranks: int) -> Callable[[Communicator], object]:
    """Return a search over sizes of reservoir and readout."""
    config = architecture_config(group_ranks=group_ranks)
    return lambda part: run_search(config, part, ReservoirFitness(config, small_data()), folder)


def resumed(folder: Path) -> list[tuple[int, str, Callable[[Communicator], None]]]:
    """Return searches that each combination stops and the next one resumes: ranks, name and work of each job."""
    cases = []
    for before, after in zip(COMBINATIONS, COMBINATIONS[1:] + COMBINATIONS[:1], strict=True):
        name = "resumed-{}-{}".format(*after)
        cases.append((before[0], f"{name}-first", grouped(folder / name, before[1], "ridge", stop=True)))
        cases.append((after[0], name, grouped(folder / name, after[1], "ridge")))
    return cases


def cheap(folder: Path, **search: int) -> Callable[[Communicator], None]:
    """Return a search that takes almost no time."""
    config = cheap_config(**search)
    return lambda part: run_search(config, part, CheapFitness(config), folder)


def main() -> int:
    """Run the searches. Argument: a folder with a stopped search in "stopped" and a damaged one in "damaged"."""
    folder, comm = Path(sys.argv[1]), connect()
    signals.install()
    cases = [(ranks, f"cheap-{ranks}", cheap(folder / f"cheap-{ranks}")) for ranks in (1, 2, 3, 4, 7)]
    cases += [(ranks, f"halved-{ranks}", cheap(folder / f"halved-{ranks}", **HALVING)) for ranks in (1, 2, 3)]
    cases.append((4, "resumed", cheap(folder / "stopped")))
    for ranks, together in (*COMBINATIONS, AUTOMATIC):
        name = f"ridge-{ranks}-{together}"
        cases.append((ranks, name, grouped(folder / name, together, "ridge")))
    for ranks, together in ARCHITECTURES:
        name = f"architecture-{ranks}-{together}"
        cases.append((ranks, name, architecture(folder / name, together)))
    cases += resumed(folder)
    train = folder / "train-stopped-in-a-group-and-resumed"
    for ranks, together, stop in ((3, 3, True), (4, 2, True), (2, 1, False)):
        cases.append((ranks, f"train-{ranks}", grouped(train, together, "train", stop)))
    for ranks, name, work in cases:
        on_first(comm, ranks, folder / f"{name}.done", work)
    try:
        run_search(cheap_config(), comm, CheapFitness(cheap_config()), folder / "damaged")
    except RcdpError as error:
        print(f"rank {comm.rank}: {type(error).__name__}: {error}", flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
