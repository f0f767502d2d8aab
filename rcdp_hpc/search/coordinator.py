"""The state of a search on rank 0: optimiser, archive of evaluations, and files."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config, flatten, may_change, refuse_other_settings
from rcdp_hpc.errors import DataDamagedError, StageFailedError
from rcdp_hpc.runtime.progress import time_left
from rcdp_hpc.search.background_writer import BackgroundWriter
from rcdp_hpc.search.closing import all_failed, fitness_formula, report_end
from rcdp_hpc.search.density_term import DensityTerm
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.halving import Halving, comparable_fitness
from rcdp_hpc.search.optimizers.contract import CheckedOptimizer
from rcdp_hpc.search.records.archive import Entry, EvaluationArchive
from rcdp_hpc.search.records.best import Best, write_best
from rcdp_hpc.search.records.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from rcdp_hpc.search.records.efficiency import Usage, append_usage
from rcdp_hpc.search.records.history import History, HistoryLine
from rcdp_hpc.search.records.journal import read_journals, remove_journals
from rcdp_hpc.search.records.settings import search_settings, with_missing_defaults
from rcdp_hpc.search.space import Space
from rcdp_hpc.search.stopping import reason_to_end

log = logging.getLogger(__name__)


class SearchCoordinator:
    """Propose candidates, record their evaluations, and write history and checkpoints. For rank 0.

    A thread writes history and checkpoint while the next generation is evaluated; its errors are raised by the next
    call of `record`, `flush` or `finish`.

    Parameters
    ----------
    config : Config
    space : Space
    folder : Path
        Folder of the search.
    fingerprint : str
        Digest of the data of the fitness.
    ranks : int
        Ranks of the job, for the reported efficiency.

    Attributes
    ----------
    end_reason : str
        Why the search ends before its last generation; empty if it does not.
    saved_generation : int
        The last complete generation of the checkpoint on disk.
    share : float
        Share of the rows that the candidates of the last `pending` are evaluated on.
    """

    def __init__(self, config: Config, space: Space, folder: Path, fingerprint: str, ranks: int = 1) -> None:
        search = config.search
        self.config = config
        self.search = search
        self.space = space
        self.folder = folder
        self.ranks = ranks
        self.optimizer = CheckedOptimizer(search, (space.lower, space.upper), config.run.seed, space.start(config))
        self.settings = search_settings(config, fingerprint, space.names)
        self.density_term = DensityTerm.of(config, space)
        self.archive = EvaluationArchive(self.density_term)
        self.history = History(folder / "history.jsonl")
        self.halving = Halving(search.halving, search.halving_steps)
        self.end_reason = ""
        self.saved_generation = -1
        self.share = 1.0
        self._earlier_seconds = 0.0
        self._started = time.monotonic()
        self._round_started = self._started
        self._pending_rows: list[int] = []
        self._generation_note = ""
        self._usage_note = ""
        self._writer = BackgroundWriter()
        self._resume()
        self._journalled = read_journals(folder, self.digest)
        self._begin_generation()
        self._check_end()

    @property
    def digest(self) -> str:
        """Digest of the settings that must not change on resume; it marks the lines of journals."""
        fixed = {key: value for key, value in flatten(self.settings).items() if not may_change(key)}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def generation(self) -> int:
        """The generation to evaluate, from 1."""
        return self.optimizer.generation

    @property
    def done(self) -> bool:
        """Whether the search has ended."""
        return self.optimizer.done or bool(self.end_reason)

    def remaining(self) -> int:
        """Return the number of candidates in the remaining generations, evaluated or reused."""
        return self.optimizer.population * (self.optimizer.generations - self.generation + 1)

    def note(self) -> str:
        """Return a few words on the last complete generation."""
        return ", ".join(part for part in (self._generation_note, self._usage_note) if part)

    def position(self) -> str:
        """Return a few words on how far the search is."""
        return f"in generation {self.generation} of {self.optimizer.generations}"

    def pending(self) -> NDArray[np.float64]:
        """Return the values of the candidates to evaluate next, different from each other, shape (n, d)."""
        self._pending_rows, self.share = self.halving.pending(self.values, self.archive)
        self._round_started = time.monotonic()
        return self.values[self._pending_rows]

    def record(self, evaluations: list[Evaluation | None], workers: int = 1) -> None:
        """Record the evaluations of the pending candidates, finish a complete generation, and write a checkpoint.

        Parameters
        ----------
        evaluations : list of Evaluation or None
            In the order of `pending`; None for a candidate that was not evaluated.
        workers : int
            Ranks or groups of ranks that evaluated them.
        """
        self.flush()
        generation = self.generation
        for row, evaluation in zip(self._pending_rows, evaluations, strict=True):
            if evaluation is not None:
                self.archive.add(Entry(generation, row, self.values[row], evaluation, self.share))
        complete = not self.halving.pending(self.values, self.archive)[0]
        self._write(self._finish_generation() if complete else [])
        self._begin_generation()
        self._check_end()
        self._record_usage(generation, [one for one in evaluations if one is not None], workers)

    def flush(self) -> None:
        """Wait until the history and the checkpoint are on disk."""
        self._writer.wait()

    def finish(self) -> Best:
        """Write and return the winner."""
        self.flush()
        entry = self.archive.best()
        if entry is None or entry.evaluation.fitness == -np.inf:
            # With halving, possibly no candidate was evaluated on all rows.
            reasons = (reason for reason in self.archive.reasons() if reason is not None)
            reason = next(reasons, "nothing was evaluated")
            raise StageFailedError(all_failed(self.search, self.history.path, reason))
        if self.end_reason:
            log.info("search: ended after generation %d: %s", self.generation - 1, self.end_reason)
        winner = entry.evaluation
        best = Best(
            self.space.named(entry.values), winner.fitness, winner.error, winner.accuracy, entry.generation,
            entry.candidate, len(self.archive), self.archive.seconds(), self.archive.first_error,
            fitness_formula(self.search, self.archive.first_error),
        )  # fmt: skip
        write_best(self.folder / "best.toml", best)
        remove_journals(self.folder)
        failed = sum(reason is not None for reason in self.archive.reasons())
        report_end(self.config, self.space, best, failed, self.archive.most_accurate())
        return best

    def _begin_generation(self) -> None:
        self.positions = self.optimizer.ask()
        self.values = self.space.decode_rows(self.positions)
        while self._journalled and not self.optimizer.done and self._recover():
            pass

    def _recover(self) -> bool:
        """Add the journals' evaluations of pending candidates to the archive; return whether others became pending."""
        rows, share = self.halving.pending(self.values, self.archive)
        for row in rows:
            evaluation = self._journalled.pop((self.values[row].tobytes(), share), None)
            if evaluation is not None:
                self.archive.add(Entry(self.generation, row, self.values[row], evaluation, share))
        return bool(rows) and self.halving.pending(self.values, self.archive)[1] > share

    def _check_end(self) -> None:
        best = self.archive.best()
        best_generation = best.generation if best else 0
        self.end_reason = reason_to_end(
            self.search, self.generation - 1, len(self.archive), best_generation, self._seconds()
        )

    def _seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._started

    def _finish_generation(self) -> list[HistoryLine]:
        """Pass the costs to the optimiser and return the lines of the history."""
        entries = self.halving.latest(self.values, self.archive)
        generation = self.generation
        lines = [
            HistoryLine.of(generation, candidate, position.tolist(), self.space.named(entry.values), entry)
            for candidate, (position, entry) in enumerate(zip(self.positions, entries, strict=True))
        ]
        fitness = comparable_fitness(entries)
        self.optimizer.tell(-fitness)
        self._generation_note = self._summary(generation, fitness)
        return lines

    def _summary(self, generation: int, fitness: NDArray[np.float64]) -> str:
        finite = fitness[np.isfinite(fitness)]
        mean = f"{finite.mean():.5g}" if finite.size else "none"
        parts = [
            f"generation {generation} of {self.optimizer.generations}",
            f"best fitness {-self.optimizer.best_cost():.5g}",
            f"mean {mean}",
            self.optimizer.status(),
            f"{fitness.size - finite.size} failed" if finite.size < fitness.size else "",
        ]
        return ", ".join(part for part in parts if part)

    def _record_usage(self, generation: int, evaluations: list[Evaluation], workers: int) -> None:
        """Record how busy the ranks were in the round."""
        seconds_of_rank: dict[int, float] = {}
        for evaluation in evaluations:
            seconds_of_rank[evaluation.rank] = seconds_of_rank.get(evaluation.rank, 0.0) + evaluation.seconds
        usage = Usage(
            generation, len(evaluations), self.ranks, workers, time.monotonic() - self._round_started,
            sum(seconds_of_rank.values()) * self.ranks / workers, max(seconds_of_rank.values(), default=0.0),
        )  # fmt: skip
        append_usage(self.folder, usage)
        left = (self.optimizer.generations - self.generation + 1) * self._seconds() / max(self.generation - 1, 1)
        # The rate of a single rank is already in the progress line.
        notes = [usage.summary()] if self.ranks > 1 else []
        self._usage_note = ", ".join([*notes, time_left(left)] if self.generation > 1 else notes)

    def _write(self, lines: list[HistoryLine]) -> None:
        """Append to the history and write a checkpoint, in a thread, from copies of the state."""
        optimizer = self.optimizer.state()
        archive = self.archive.arrays(len(self.space.dimensions))
        seconds = self._seconds()
        complete = self.generation - 1

        def write() -> None:
            if lines:
                self.history.append(lines)
            save_checkpoint(self.folder, Checkpoint(self.settings, optimizer, archive, self.history.mark, seconds))
            self.saved_generation = complete

        self._writer.start(write)

    def _resume(self) -> None:
        """Continue from the newest intact checkpoint, or begin if there is none."""
        checkpoint = load_checkpoint(self.folder, lambda checkpoint: self.history.check(checkpoint.history))
        if checkpoint is None:
            self.history.truncate()
            return
        recorded = with_missing_defaults(checkpoint.settings, self.settings)
        refuse_other_settings(str(self.folder), recorded, self.settings, "search")
        try:
            self.optimizer.restore(checkpoint.optimizer)
            self.archive = EvaluationArchive.from_arrays(checkpoint.archive, self.density_term)
        except (KeyError, ValueError) as error:
            raise DataDamagedError(f"{self.folder}: the checkpoint is not one of this search ({error})") from None
        self.history.truncate(checkpoint.history)
        if self.generation > 1:
            self.archive.settle()
        self._earlier_seconds = checkpoint.seconds
        self.saved_generation = self.generation - 1
        progress = "all generations are done" if self.optimizer.done else f"resumed {self.position()}"
        log.info("search: %s, %d candidates evaluated so far", progress, len(self.archive))
