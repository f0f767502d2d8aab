"""What rank 0 holds of a search: optimiser, memory and files."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import TRAINING_SECTIONS, Config, SearchSection, flatten, may_change, refuse_other_settings
from rcdp_hpc.errors import DataDamagedError, StageFailedError
from rcdp_hpc.runtime.progress import time_left
from rcdp_hpc.search.closing import report_end
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.halving import Halving, comparable
from rcdp_hpc.search.optimizers import ImprovedMothFlame, MothFlame, Optimizer
from rcdp_hpc.search.records.archive import Entry, EvaluationArchive
from rcdp_hpc.search.records.best import Best, write_best
from rcdp_hpc.search.records.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rcdp_hpc.search.records.efficiency import Usage, append_usage
from rcdp_hpc.search.records.history import History, history_line
from rcdp_hpc.search.records.journal import read_journals, remove_journals
from rcdp_hpc.search.records.settings import search_settings
from rcdp_hpc.search.space import Space
from rcdp_hpc.search.stopping import reason_to_end

log = logging.getLogger(__name__)


class SearchCoordinator:
    """What rank 0 does between evaluations.

    History and checkpoint are written in a thread while the next generation is evaluated; what goes wrong there is
    raised by the next call of `take`, `settle` or `finish`.

    Parameters
    ----------
    config : Config
    space : Space
    folder : Path
        Of the search.
    fingerprint : str
        Of the data behind the fitness.
    make_optimizer : type
    ranks : int
        Of the job, for what is told about its efficiency.

    Attributes
    ----------
    ended : str
        Why the search ends before its last generation; empty where it does not.
    settled : int
        The last generation that a checkpoint on disk holds.
    share : float
        The share of the rows that what `unknown` returned is to be judged by.
    """

    def __init__(
        self,
        config: Config,
        space: Space,
        folder: Path,
        fingerprint: str,
        make_optimizer: type[Optimizer],
        ranks: int = 1,
    ) -> None:
        search = config.search
        self.search, self.space, self.folder, self.ranks = search, space, folder, ranks
        size = (space.lower, space.upper, search.population, search.generations, config.run.seed, space.start(config))
        if search.improvements and make_optimizer is MothFlame:
            self.optimizer: Optimizer = ImprovedMothFlame(*size, search.improvements)
        else:
            self.optimizer = make_optimizer(*size)
        self.settings = search_settings(config, fingerprint)
        self.settings["search"]["optimizer"] = make_optimizer.__name__
        self.memory, self.history = EvaluationArchive(), History(folder / "history.jsonl")
        self.halving = Halving(search.halving, search.halving_steps)
        self.ended = ""
        self.settled = -1
        self._seconds_before, self._started = 0.0, time.monotonic()
        self._asked_at = self._started
        self._note = self._usage_words = ""
        self._asked: list[int] = []
        self.share = 1.0
        self._writing = _Writing()
        self._resume()
        self._recovered = read_journals(folder, self.digest)
        self._begin()
        self._look_for_end()

    @property
    def digest(self) -> str:
        """A digest of the settings that may not change on resume, for the journals."""
        fixed = {key: value for key, value in flatten(self.settings).items() if not may_change(key)}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def generation(self) -> int:
        """The generation to be evaluated next, from 1."""
        return self.optimizer.generation

    @property
    def done(self) -> bool:
        """Whether there is nothing more to evaluate."""
        return self.optimizer.done or bool(self.ended)

    def remaining(self) -> int:
        """Return how many candidates are still to come, evaluated or reused."""
        return self.optimizer.population * (self.optimizer.generations - self.optimizer.generation + 1)

    def note(self) -> str:
        """Return a few words on the last complete generation."""
        return ", ".join(part for part in (self._note, self._usage_words) if part)

    def where(self) -> str:
        """Return a few words on how far the search is."""
        return f"in generation {self.optimizer.generation} of {self.optimizer.generations}"

    def unknown(self) -> NDArray[np.float64]:
        """Return the values of this generation that are to be evaluated next, each once, shape (n, d)."""
        self._asked, self.share = self.halving.due(self.values, self.memory)
        self._asked_at = time.monotonic()
        return self.values[self._asked]

    def take(self, outcomes: list[Evaluation | None], workers: int = 1) -> None:
        """Remember what was evaluated; finish the generation where nothing is missing; have a checkpoint written."""
        self.settle()
        generation = self.generation
        for row, found in zip(self._asked, outcomes, strict=True):
            if found is not None:
                self.memory.add(Entry(generation, row, self.values[row], found, self.share))
        lines = [] if self.halving.due(self.values, self.memory)[0] else self._finish_generation()
        self._write(lines)
        self._begin()
        self._look_for_end()
        self._account(generation, [found for found in outcomes if found is not None], workers)

    def settle(self) -> None:
        """Wait until what was to be written is on disk."""
        self._writing.wait()

    def finish(self) -> Best:
        """Write and return the winner."""
        self.settle()
        entry = self.memory.best()
        if entry is None or entry.evaluation.fitness == -np.inf:
            # By halving, none may have been judged by all rows.
            reasons = (reason for reason in self.memory.reasons() if reason is not None)
            reason = next(reasons, "nothing was evaluated")
            raise StageFailedError(
                f"{self.folder}: every candidate of the search failed, the first one because: {reason}. See "
                f"{self.history.path} for the others; narrow [search.space] or look at the data."
            )
        if self.ended:
            log.info("search: ended after generation %d: %s", self.generation - 1, self.ended)
        found = entry.evaluation
        best = Best(
            self.space.named(entry.values), found.fitness, found.error, found.accuracy, entry.generation,
            entry.candidate, len(self.memory), self.memory.seconds(),
        )  # fmt: skip
        write_best(self.folder / "best.toml", best)
        remove_journals(self.folder)
        failed = sum(reason is not None for reason in self.memory.reasons())
        report_end(self.search, self.space, best, failed, self.memory.most_accurate())
        return best

    def _begin(self) -> None:
        self.positions = self.optimizer.ask()
        self.values = self.space.decode_rows(self.positions)
        while self._recovered and not self.optimizer.done and self._recover():
            pass

    def _recover(self) -> bool:
        """Take what an earlier job found of what is due; tell whether more may be due by it."""
        rows, share = self.halving.due(self.values, self.memory)
        for row in rows:
            found = self._recovered.pop((self.values[row].tobytes(), share), None)
            if found is not None:
                self.memory.add(Entry(self.generation, row, self.values[row], found, share))
        return bool(rows) and self.halving.due(self.values, self.memory)[1] > share

    def _look_for_end(self) -> None:
        best = self.memory.best()
        self.ended = reason_to_end(
            self.search, self.generation - 1, len(self.memory), best.generation if best else 0, self._seconds()
        )

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _finish_generation(self) -> list[dict[str, Any]]:
        """Tell the optimiser and return the history's lines."""
        entries = self.halving.judged(self.values, self.memory)
        generation = self.optimizer.generation
        lines = [
            history_line(generation, place, position.tolist(), self.space.named(entry.values), entry)
            for place, (position, entry) in enumerate(zip(self.positions, entries, strict=True))
        ]
        fitness = comparable(entries)
        self.optimizer.tell(-fitness)
        self._note = self._summary(generation, fitness)
        return lines

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

    def _account(self, generation: int, found: list[Evaluation], workers: int) -> None:
        """Note how well the ranks were used since the candidates were asked for."""
        loads: dict[int, float] = {}
        for evaluation in found:
            loads[evaluation.rank] = loads.get(evaluation.rank, 0.0) + evaluation.seconds
        usage = Usage(
            generation, len(found), self.ranks, workers, time.monotonic() - self._asked_at,
            sum(loads.values()) * self.ranks / workers, max(loads.values(), default=0.0),
        )  # fmt: skip
        append_usage(self.folder, usage)
        left = (self.optimizer.generations - self.generation + 1) * self._seconds() / max(self.generation - 1, 1)
        # One rank has no others to share work with: its rate is that of the progress line.
        words = [usage.words()] if self.ranks > 1 else []
        self._usage_words = ", ".join([*words, time_left(left)] if self.generation > 1 else words)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        """Append to the history and write a checkpoint, in a thread; the arrays are copies already."""
        state = {f"optimizer.{name}": array for name, array in self.optimizer.state().items()}
        memory = {f"memory.{name}": array for name, array in self.memory.arrays(len(self.space.dimensions)).items()}
        reasons, seconds, complete = self.memory.reasons(), self._seconds(), self.generation - 1

        def work() -> None:
            if lines:
                self.history.append(lines)
            notes = {
                "settings": self.settings,
                "reasons": reasons,
                "history": {"size": self.history.size, "checksum": self.history.checksum},
                "seconds": seconds,
            }
            save_checkpoint(self.folder, Checkpoint({**state, **memory}, notes))
            self.settled = complete

        self._writing.start(work)

    def _resume(self) -> None:
        """Go on from the newest sound checkpoint; without one, begin."""
        checkpoint = load_checkpoint(self.folder, self._check_history)
        if checkpoint is None:
            self.history.rewind(0, 0)
            return
        recorded = checkpoint.notes["settings"]
        # Keys that are younger than the checkpoint had their defaults.
        recorded["search"] = {**SearchSection().model_dump(exclude_none=True), **recorded["search"]}
        # Keys of the training that an older version did not record cannot be compared.
        for section in self.settings.keys() & set(TRAINING_SECTIONS):
            recorded[section] = {**self.settings[section], **recorded.get(section, {})}
        refuse_other_settings(str(self.folder), recorded, self.settings, "search")
        arrays = checkpoint.arrays
        try:
            self.optimizer.restore(_without_prefix(arrays, "optimizer."))
            self.memory = EvaluationArchive.from_arrays(_without_prefix(arrays, "memory."), checkpoint.notes["reasons"])
        except (KeyError, ValueError) as error:
            raise DataDamagedError(f"{self.folder}: the checkpoint is not one of this search ({error})") from None
        self.history.rewind(**checkpoint.notes["history"])
        self._seconds_before = float(checkpoint.notes.get("seconds", 0.0))
        self.settled = self.generation - 1
        where = "all generations are done" if self.optimizer.done else f"going on {self.where()}"
        log.info("search: %s, %d candidates evaluated so far", where, len(self.memory))

    def _check_history(self, checkpoint: Checkpoint) -> None:
        self.history.check(**checkpoint.notes["history"])


class _Writing:
    """One piece of writing at a time, in a thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, work: Callable[[], None]) -> None:
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._thread.start()

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # raised again by the thread that waits
            self._error = error


def _without_prefix(arrays: dict[str, NDArray[np.float64]], prefix: str) -> dict[str, NDArray[np.float64]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
