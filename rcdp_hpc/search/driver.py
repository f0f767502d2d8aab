"""The search loop: ask, evaluate on all ranks, tell, write the history and a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config, refuse_other_settings
from rcdp_hpc.errors import DataDamagedError, InputError, StageFailedError, StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.collective import agree, agreed, run_on_root
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.best import Best, write_best
from rcdp_hpc.search.candidate import Evaluation, Fitness
from rcdp_hpc.search.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rcdp_hpc.search.evaluator import Evaluator
from rcdp_hpc.search.history import History, history_line
from rcdp_hpc.search.memory import Entry, Memory
from rcdp_hpc.search.optimizers import MothFlame, Optimizer
from rcdp_hpc.search.settings import search_settings
from rcdp_hpc.search.space import Space, searched_space

log = logging.getLogger(__name__)

T = TypeVar("T")


def run_search(
    config: Config,
    comm: Communicator,
    fitness: Fitness,
    folder: Path,
    *,
    fingerprint: str = "",
    make_optimizer: type[Optimizer] = MothFlame,
) -> Best:
    """Search for the best candidate, or go on with a search that was stopped. Collective.

    Candidates, history and winner are the same for any number of ranks and however often the search was stopped.

    Parameters
    ----------
    config : Config
    comm : Communicator
    fitness : callable
        Returns the `Evaluation` of a candidate's named values, the same on every rank.
    folder : Path
        Where history.jsonl, best.toml and the checkpoints lie.
    fingerprint : str
        Of the data behind `fitness`; a checkpoint of other data is refused.
    make_optimizer : type
        Class of the optimiser.

    Returns
    -------
    Best
        The winner, on every rank.

    Raises
    ------
    InputError
        If the search space is wrong, or the folder holds a search of other settings.
    DataDamagedError
        If the folder's checkpoints are damaged.
    StoppedError
        If a signal asked for a stop; a checkpoint is written.
    StageFailedError
        If every candidate failed, or a file cannot be written.
    """
    space = agree(comm, lambda: _checked_space(config))
    root = _on_root(comm, lambda: _Root(config, space, folder, fingerprint, make_optimizer))
    remaining = root.remaining() if root is not None else 0
    with (
        limit_threads(config.search.threads),
        Progress("search", remaining, "candidates", comm.is_root and config.run.progress) as progress,
    ):
        evaluator = Evaluator(comm, fitness, space, lambda count: progress.advance(count, root.note() if root else ""))
        while not comm.broadcast(root is not None and root.done):
            _generation(comm, evaluator, root, progress)
    return run_on_root(comm, root.finish if root is not None else _nothing)


def search(config: Config, comm: Communicator, run: RunDirectory) -> dict[str, Any]:
    """Search in a run directory: the stage "search". Collective.

    Parameters
    ----------
    config : Config
        ``reservoir.kernel`` must be chosen already, not "auto".
    comm : Communicator
    run : RunDirectory
        Its shards are read.

    Returns
    -------
    dict
        What the stage's state tells of the winner.

    Raises
    ------
    RcdpError
        As `run_search`, or because of the shards.
    """
    # Imported here, since they need torch and h5py, which the loop itself does not.
    from rcdp_hpc.data.reading import ShardSet
    from rcdp_hpc.search.data import fitness_rows
    from rcdp_hpc.search.fitness import ReservoirFitness

    agree(comm, lambda: _checked_space(config))
    shards = agree(comm, lambda: ShardSet(run.shards, verify=config.data.verify_on_read))
    data = fitness_rows(shards, config, comm)
    fitness = agree(comm, lambda: ReservoirFitness(config, data))
    fingerprint = data.fingerprint() if comm.is_root else ""
    best = run_search(config, comm, fitness, run.search, fingerprint=fingerprint)
    return {**asdict(best), "generations": config.search.generations}


def _generation(comm: Communicator, evaluator: Evaluator, root: _Root | None, progress: Progress) -> None:
    """Evaluate one generation on all ranks and record it, or stop with a checkpoint."""
    unknown = root.unknown() if root is not None else None
    outcomes = evaluator.evaluate(unknown)
    stop = signals.stop_agreed(comm)
    agree(comm, lambda: root.take(outcomes) if root is not None and outcomes is not None else None)
    if root is not None and unknown is not None and not stop:
        progress.advance(root.optimizer.population - len(unknown), root.note())
    if stop and not comm.broadcast(root is not None and root.done):
        where = comm.broadcast(root.where() if root is not None else "")
        comm.barrier()
        raise agreed(StoppedError(f"search stopped by {signals.received_name()} {where}; start again to go on."))


class _Root:
    """What rank 0 holds: optimiser, memory and files."""

    def __init__(
        self, config: Config, space: Space, folder: Path, fingerprint: str, make_optimizer: type[Optimizer]
    ) -> None:
        search = config.search
        self.space, self.folder = space, folder
        self.optimizer = make_optimizer(
            space.lower, space.upper, search.population, search.generations, config.run.seed
        )
        self.settings = search_settings(config, fingerprint)
        self.settings["search"]["optimizer"] = make_optimizer.__name__
        self.memory, self.history = Memory(), History(folder / "history.jsonl")
        self._last_note = ""
        self._asked: list[int] = []
        self._resume()
        self._begin()

    @property
    def done(self) -> bool:
        return self.optimizer.done

    def remaining(self) -> int:
        """Return how many candidates are still to come, evaluated or reused."""
        return self.optimizer.population * (self.optimizer.generations - self.optimizer.generation + 1)

    def note(self) -> str:
        """Return a few words on the last complete generation."""
        return self._last_note

    def where(self) -> str:
        return f"in generation {self.optimizer.generation} of {self.optimizer.generations}"

    def unknown(self) -> NDArray[np.float64]:
        """Return the values of this generation that are not known yet, each once, shape (n, d)."""
        self._asked = self.memory.unknown(self.values)
        return self.values[self._asked]

    def take(self, outcomes: list[Evaluation | None]) -> None:
        """Remember what was evaluated; finish the generation where nothing is missing; write a checkpoint."""
        for row, found in zip(self._asked, outcomes, strict=True):
            if found is not None:
                self.memory.add(Entry(self.optimizer.generation, row, self.values[row], found))
        if not self.memory.unknown(self.values):
            self._finish_generation()
        self._save()
        self._begin()

    def finish(self) -> Best:
        """Write and return the winner."""
        entry = self.memory.best()
        if entry is None or entry.evaluation.fitness == -np.inf:
            reason = entry.evaluation.reason if entry is not None else "nothing was evaluated"
            raise StageFailedError(
                f"{self.folder}: every candidate of the search failed, the first one because: {reason}. See "
                f"{self.history.path} for the others; narrow [search.space] or look at the data."
            )
        found = entry.evaluation
        best = Best(
            self.space.named(entry.values), found.fitness, found.error, found.accuracy, entry.generation,
            entry.candidate, len(self.memory), self.memory.seconds(),
        )  # fmt: skip
        write_best(self.folder / "best.toml", best)
        return best

    def _begin(self) -> None:
        self.positions = self.optimizer.ask()
        self.values = self.space.decode_rows(self.positions)

    def _finish_generation(self) -> None:
        entries = [entry for values in self.values if (entry := self.memory.get(values)) is not None]
        generation = self.optimizer.generation
        self.history.append(
            history_line(generation, place, position.tolist(), self.space.named(entry.values), entry)
            for place, (position, entry) in enumerate(zip(self.positions, entries, strict=True))
        )
        fitness = np.array([entry.evaluation.fitness for entry in entries])
        self.optimizer.tell(-fitness)
        self._last_note = self._summary(generation, fitness)

    def _summary(self, generation: int, fitness: NDArray[np.float64]) -> str:
        sound = fitness[np.isfinite(fitness)]
        mean = f"{sound.mean():.5g}" if sound.size else "none"
        parts = [
            f"generation {generation} of {self.optimizer.generations}",
            f"best fitness {-self.optimizer.best()[1]:.5g}",
            f"mean {mean}",
            self.optimizer.status(),
            f"{fitness.size - sound.size} failed" if sound.size < fitness.size else "",
        ]
        return ", ".join(part for part in parts if part)

    def _save(self) -> None:
        state = {f"optimizer.{name}": array for name, array in self.optimizer.state().items()}
        memory = {f"memory.{name}": array for name, array in self.memory.arrays(len(self.space.dimensions)).items()}
        notes = {
            "settings": self.settings,
            "reasons": self.memory.reasons(),
            "history": {"size": self.history.size, "checksum": self.history.checksum},
        }
        save_checkpoint(self.folder, Checkpoint({**state, **memory}, notes))

    def _resume(self) -> None:
        """Go on from the newest sound checkpoint; without one, begin."""
        checkpoint = load_checkpoint(self.folder, self._check_history)
        if checkpoint is None:
            self.history.rewind(0, 0)
            return
        refuse_other_settings(str(self.folder), checkpoint.notes["settings"], self.settings, "search")
        arrays = checkpoint.arrays
        try:
            self.optimizer.restore(_without_prefix(arrays, "optimizer."))
            self.memory = Memory.from_arrays(_without_prefix(arrays, "memory."), checkpoint.notes["reasons"])
        except (KeyError, ValueError) as error:
            raise DataDamagedError(f"{self.folder}: the checkpoint is not one of this search ({error})") from None
        self.history.rewind(**checkpoint.notes["history"])
        log.info("search: going on %s, %d candidates evaluated so far", self.where(), len(self.memory))

    def _check_history(self, checkpoint: Checkpoint) -> None:
        self.history.check(**checkpoint.notes["history"])


def _checked_space(config: Config) -> Space:
    if config.search.generations == 0:
        raise InputError("search.generations = 0: there is nothing to search; raise it, or leave the search out")
    return searched_space(config.search)


def _without_prefix(arrays: dict[str, NDArray[np.float64]], prefix: str) -> dict[str, NDArray[np.float64]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _on_root(comm: Communicator, make: Callable[[], T]) -> T | None:
    """Make an object that stays on rank 0; its errors are raised on all ranks."""
    made: list[T] = []
    run_on_root(comm, lambda: made.append(make()))
    return made[0] if made else None


def _nothing() -> Best:
    raise AssertionError("only rank 0 runs this")
