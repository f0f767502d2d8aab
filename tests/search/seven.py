"""Searches on the first ranks of seven, one after the other in one job: starting a job costs more than most of them.

Ranks that have no part in a search sleep instead of waiting in a collective, which would take cores from the others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from search.cheap import CheapFitness, cheap_config
from search.grouped import Interrupted, small_config, small_data

from rcdp_hpc.errors import RcdpError, StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.runtime.world import connect
from rcdp_hpc.search.driver import run_search

HALVING = {"halving": 2, "halving_steps": 2}
GROUPED = ((1, 1), (2, 2), (3, 0), (4, 2), (7, 3), (7, 1))


def on_first(comm: Communicator, ranks: int, done: Path, work: Callable[[Communicator], object]) -> None:
    """Let the first ranks work; the others wait for a file."""
    part = comm.split(int(comm.rank < ranks))
    if comm.rank < ranks:
        work(part)
        part.barrier()
        done.touch()
    while not done.exists():
        time.sleep(0.02)


def grouped(folder: Path, group_ranks: int, evaluation: str, call: int = 0) -> Callable[[Communicator], None]:
    """Return a search over small reservoirs; its last rank may be asked to stop at a call."""

    def work(part: Communicator) -> None:
        config = small_config(group_ranks=group_ranks, evaluation=evaluation)
        fitness = Interrupted(config, small_data(), call if part.rank == part.size - 1 else 0)
        try:
            run_search(config, part, fitness, folder)
        except StoppedError:
            assert call
            signals.forget()
        else:
            assert not call

    return work


def cheap(folder: Path, **search: int) -> Callable[[Communicator], None]:
    """Return a search that costs next to nothing."""
    config = cheap_config(**search)
    return lambda part: run_search(config, part, CheapFitness(config), folder)


def main() -> int:
    """Run: folder, with a stopped search in folder/stopped and a damaged one in folder/damaged."""
    folder, comm = Path(sys.argv[1]), connect()
    signals.install()
    cases = [(ranks, f"cheap-{ranks}", cheap(folder / f"cheap-{ranks}")) for ranks in (1, 2, 3, 4, 7)]
    cases += [(ranks, f"halved-{ranks}", cheap(folder / f"halved-{ranks}", **HALVING)) for ranks in (1, 2, 3)]
    cases.append((4, "resumed", cheap(folder / "stopped")))
    for ranks, together in GROUPED:
        name = f"ridge-{ranks}-{together}"
        cases.append((ranks, name, grouped(folder / name, together, "ridge")))
    train = folder / "train-stopped-in-a-group-and-resumed"
    for ranks, together, call in ((3, 3, 7), (4, 2, 1), (2, 1, 0)):
        cases.append((ranks, f"train-{ranks}", grouped(train, together, "train", call)))
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
