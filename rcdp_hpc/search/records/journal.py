"""RUN/search/journal: the evaluations of each rank since the last checkpoint, so that a killed job loses little.

A rank appends a line for every candidate that it evaluated. A line has the digest of the settings of its search. The
evaluation of a candidate does not depend on time or rank, so a line of the same settings is always valid. If candidates
have a time limit, a line also announces each candidate before its evaluation, and a watchdog ends the job if a
candidate does not return. The candidates of a batch are in a file of their own while they are evaluated: after a
restart they are evaluated one after the other, so that the one that hangs is found.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import read_intact_lines, read_sealed, sealed_line, write_sealed
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.search.evaluation.candidate import Evaluation

log = logging.getLogger(__name__)

FOLDER = "journal"
BATCH_SUFFIX = ".batch.json"
Key = tuple[bytes, float]
# A candidate counts as hanging after its time limit times PATIENCE plus PATIENCE_SECONDS.
PATIENCE = 1.5
PATIENCE_SECONDS = 2.0
# Seconds later a timer outside Python ends the process, in case the watchdog thread cannot run.
BACKSTOP_SECONDS = 5.0


class Journal:
    """The journal of one rank.

    Even and odd generations have a file each. A file is emptied at the beginning of a generation if a checkpoint
    includes all generations in it.

    Parameters
    ----------
    folder : Path
        Folder of the search.
    rank : int
    digest : str
        Digest of the settings.
    limit : float
        Seconds that a candidate may take; 0 for no limit and no watchdog.
    abort : callable, optional
        Ends the whole job with an exit code.
    """

    def __init__(
        self, folder: Path, rank: int, digest: str, limit: float = 0.0, abort: Callable[[int], Any] = os._exit
    ) -> None:
        self.rank = rank
        self.digest = digest
        self.limit = limit
        self.abort = abort
        self.paths = [folder / FOLDER / f"rank-{rank:05d}-{parity}.jsonl" for parity in (0, 1)]
        self.hang_path = folder / FOLDER / f"rank-{rank:05d}.hang"
        self.batch_path = folder / FOLDER / f"rank-{rank:05d}{BATCH_SUFFIX}"
        self._lost_batches = _lost_batches(folder, digest) if limit else set()
        self.generation = 0
        self.share = 1.0
        self._newest_generation = [_newest_generation(path, digest) for path in self.paths]
        self._file: IO[str] | None = None
        self._hang_file: IO[str] | None = None

    def begin(self, generation: int, saved_generation: int, share: float = 1.0) -> None:
        """Begin a round of evaluations.

        Parameters
        ----------
        generation : int
        saved_generation : int
            The last complete generation of the checkpoint on disk.
        share : float
            Share of the rows that the candidates are evaluated on.
        """
        self.close()
        parity = generation % 2
        self.generation = generation
        self.share = share
        with os_errors_explained(self.paths[parity]):
            self.paths[parity].parent.mkdir(parents=True, exist_ok=True)
            obsolete = self._newest_generation[parity] <= saved_generation
            self._file = self.paths[parity].open("w" if obsolete else "a", encoding="utf-8")
            if not obsolete:
                self._file.write("\n")  # ends a line that was cut short
            if self.limit:
                self._hang_file = self.hang_path.open("w", encoding="utf-8")
        self._newest_generation[parity] = generation

    def record(self, values: NDArray[np.float64], evaluation: Evaluation | None) -> None:
        """Write the evaluation of a candidate, or None for a candidate whose evaluation begins.

        Parameters
        ----------
        values : ndarray, shape (d,), float64
        evaluation : Evaluation or None
        """
        result = None
        if evaluation is not None:
            result = [evaluation.fitness, evaluation.error, evaluation.accuracy, evaluation.seconds]
        line = {
            "digest": self.digest, "generation": self.generation, "rank": self.rank, "share": self.share,
            "values": values.tolist(), "result": result, "limit": self.limit,
            "reason": evaluation.reason if evaluation is not None else None,
        }  # fmt: skip
        if self._file is not None:
            with os_errors_explained(self.paths[self.generation % 2]):
                self._file.write(sealed_line(line))
                self._file.flush()

    def announce(self, values: NDArray[np.float64]) -> None:
        """Write a candidate, shape (d,), before its evaluation, if there is a time limit."""
        if self._hang_file is not None:
            self.record(values, None)

    def was_in_lost_batch(self, values: NDArray[np.float64]) -> bool:
        """Return whether an earlier job ended while it evaluated a candidate, shape (d,), in a batch."""
        return values.tobytes() in self._lost_batches

    @contextmanager
    def batch(self, values: NDArray[np.float64]) -> Iterator[None]:
        """Record and watch the evaluation of a batch, shape (n, d), if there is a time limit.

        The batch has the time of its candidates, and if it exceeds it, each candidate alone has its own once more.
        """
        if self._hang_file is None:
            yield
            return
        write_sealed(self.batch_path, {"digest": self.digest, "values": values.tolist()})
        name = f"batch of {len(values)} candidates"
        then = "its candidates will be evaluated one after the other"
        with self._watched(name, 2 * len(values) * self.limit, then, self._hang_file):
            yield
        with os_errors_explained(self.batch_path):
            self.batch_path.unlink()

    @contextmanager
    def watched(self, name: str) -> Iterator[None]:
        """Watch the evaluation of the announced candidate: if it hangs, write its name and end the job."""
        if self._hang_file is None:
            yield
            return
        with self._watched(f"candidate {name}", self.limit, "the candidate will count as failed", self._hang_file):
            yield

    @contextmanager
    def _watched(self, name: str, limit: float, then: str, file: IO[str]) -> Iterator[None]:
        patience = PATIENCE * limit + PATIENCE_SECONDS
        timer = threading.Timer(patience, self._end_job, (name, patience, then))
        timer.daemon = True
        timer.start()
        # This timer is a thread outside Python, since native code may hold the interpreter.
        faulthandler.dump_traceback_later(patience + BACKSTOP_SECONDS, exit=True, file=file)
        try:
            yield
        finally:
            timer.cancel()
            faulthandler.cancel_dump_traceback_later()

    def _end_job(self, name: str, seconds: float, then: str) -> None:
        if self._hang_file is not None:
            self._hang_file.write(f"{name}\n")
            self._hang_file.flush()
        message = (
            f"rcdp: error: rank {self.rank}: the {name} has not returned after {seconds:g} s "
            f"(search.candidate_seconds = {self.limit:g}): it hangs, and the job is ended. Start again to resume; "
            f"{then}."
        )
        print(message, file=sys.stderr, flush=True)
        self.abort(1)

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, self._hang_file):
            # Every line is flushed when it is written, and an error of that has been reported already.
            with suppress(OSError):
                if file is not None:
                    file.close()
        self._file = self._hang_file = None


def read_journals(folder: Path, digest: str) -> dict[Key, Evaluation]:
    """Return the evaluations of earlier jobs, by the bytes of the values and the share of the rows.

    Lines of other settings are ignored. Lines that were cut short or altered are counted in a warning; their candidates
    are evaluated again. A candidate that hung counts as failed.

    Parameters
    ----------
    folder : Path
        Folder of the search.
    digest : str
        Digest of the settings.
    """
    evaluations: dict[Key, Evaluation] = {}
    damaged: dict[str, int] = {}
    for path in sorted((folder / FOLDER).glob("rank-*-?.jsonl")):
        lines, damaged_lines = _lines(path, digest)
        damaged |= {path.name: damaged_lines} if damaged_lines else {}
        for line in lines:
            if line["result"] is not None:
                fitness, error, accuracy, seconds = line["result"]
                evaluations[_key(line)] = Evaluation(fitness, error, accuracy, seconds, line["reason"], line["rank"])
    if damaged:
        log.warning(
            "%s: %d lines of %s were cut short or altered and are left out; their candidates are evaluated again",
            *(folder / FOLDER, sum(damaged.values()), ", ".join(damaged)),
        )
    for path in sorted((folder / FOLDER).glob("rank-*.hang")):
        if path.stat().st_size:
            evaluations = _hanging_candidate(path, digest) | evaluations
    return evaluations


def _lost_batches(folder: Path, digest: str) -> set[bytes]:
    """Return the values of the candidates that earlier jobs of these settings were evaluating in batches."""
    lost: set[bytes] = set()
    for path in sorted((folder / FOLDER).glob(f"rank-*{BATCH_SUFFIX}")):
        try:
            batch = read_sealed(path)
        except DataDamagedError as error:
            log.warning("%s; its candidates are evaluated in batches again", error)
            continue
        if batch["digest"] == digest:
            lost |= {np.array(values, dtype=np.float64).tobytes() for values in batch["values"]}
    return lost


def _hanging_candidate(path: Path, digest: str) -> dict[Key, Evaluation]:
    """Return the failure of the candidate that a rank was evaluating when it hung; empty if it is of other settings."""
    files = [_lines(path.with_name(f"{path.stem}-{parity}.jsonl"), digest)[0] for parity in (0, 1)]
    # The last line of the newer file announces the candidate.
    last = max((lines[-1] for lines in files if lines), key=lambda line: line["generation"], default=None)
    if last is None or last["result"] is not None:
        return {}
    reason = f"hung: did not return within {last['limit']:g} s"
    return {_key(last): Evaluation(-np.inf, np.nan, np.nan, last["limit"], reason, last["rank"])}


def remove_journals(folder: Path) -> None:
    """Remove the journals of a finished search."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _newest_generation(path: Path, digest: str) -> int:
    """Return the newest generation in a file, -1 if it has none."""
    return max((line["generation"] for line in _lines(path, digest)[0]), default=-1)


def _lines(path: Path, digest: str) -> tuple[list[dict[str, Any]], int]:
    """Return the intact lines of these settings, and the number of damaged lines."""
    lines = read_intact_lines(path)
    return [line for line in lines.records if line.get("digest") == digest], len(lines.damaged)


def _key(line: dict[str, Any]) -> Key:
    return np.array(line["values"], dtype=np.float64).tobytes(), line["share"]
