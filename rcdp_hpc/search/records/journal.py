"""RUN/search/journal: what each rank found within a generation, so that little is lost when a job is killed.

A rank appends a line for every candidate it has evaluated. A line belongs to a search of certain settings, named by a
digest; the answer to a candidate does not depend on when it was found, so a line is never wrong, only unneeded. Where
candidates have a time limit a line also tells which candidate is being evaluated, and a watchdog ends the job when
one does not come back.
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

from rcdp_hpc.runtime.digests import read_intact_lines, sealed_line
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.search.evaluation.candidate import Evaluation

log = logging.getLogger(__name__)

FOLDER = "journal"
Key = tuple[bytes, float]
PATIENCE = 1.5  # times its limit until a candidate that does not come back is taken to hang, and
PATIENCE_SECONDS = 2.0  # so many seconds more
BACKSTOP_SECONDS = 5.0  # until the process is ended from outside Python, where even the watchdog cannot run


class Journal:
    """The journal of one rank.

    Two files take turns by generation; a file is emptied when its turn comes and its generations are in a checkpoint.

    Parameters
    ----------
    folder : Path
        Of the search.
    rank : int
    digest : str
        Of the settings.
    limit : float
        Seconds a candidate may take; 0 is no limit, and no watchdog.
    abort : callable, optional
        Ends the whole job, given an exit code.
    """

    def __init__(
        self, folder: Path, rank: int, digest: str, limit: float = 0.0, abort: Callable[[int], Any] = os._exit
    ) -> None:
        self.rank, self.digest, self.limit, self.abort = rank, digest, limit, abort
        self.paths = [folder / FOLDER / f"rank-{rank:05d}-{turn}.jsonl" for turn in (0, 1)]
        self.hang_path = folder / FOLDER / f"rank-{rank:05d}.hang"
        self.generation, self.share = 0, 1.0
        self._newest = [_newest(path, digest) for path in self.paths]
        self._file: IO[str] | None = None
        self._hang: IO[str] | None = None

    def begin(self, generation: int, settled: int, share: float = 1.0) -> None:
        """Begin a generation, or a part of it.

        Parameters
        ----------
        generation : int
        settled : int
            The last generation that a checkpoint holds for certain.
        share : float
            The share of the rows that candidates are judged by.
        """
        self.close()
        turn, self.generation, self.share = generation % 2, generation, share
        with os_errors_explained(self.paths[turn]):
            self.paths[turn].parent.mkdir(parents=True, exist_ok=True)
            empty = self._newest[turn] <= settled
            self._file = self.paths[turn].open("w" if empty else "a", encoding="utf-8")
            if not empty:
                self._file.write("\n")  # whatever was cut short before ends here
            if self.limit:
                self._hang = self.hang_path.open("w", encoding="utf-8")
        self._newest[turn] = generation

    def record(self, values: NDArray[np.float64], found: Evaluation | None) -> None:
        """Write down an evaluated candidate, or with None one that is about to be evaluated."""
        result = None if found is None else [found.fitness, found.error, found.accuracy, found.seconds]
        line = {
            "digest": self.digest, "generation": self.generation, "rank": self.rank, "share": self.share,
            "values": values.tolist(), "result": result, "limit": self.limit,
            "reason": found.reason if found is not None else None,
        }  # fmt: skip
        if self._file is not None:
            with os_errors_explained(self.paths[self.generation % 2]):
                self._file.write(sealed_line(line))
                self._file.flush()

    def announce(self, values: NDArray[np.float64]) -> None:
        """Write down a candidate that is about to be evaluated, where one that hangs is to be told by it."""
        if self._hang is not None:
            self.record(values, None)

    @contextmanager
    def watched(self, name: str) -> Iterator[None]:
        """Watch over the evaluation of the announced candidate: where it hangs, end the job and leave a note."""
        if self._hang is None:
            yield
            return
        patience = PATIENCE * self.limit + PATIENCE_SECONDS
        timer = threading.Timer(patience, self._end_job, (name, patience))
        timer.daemon = True
        timer.start()
        # Runs in a thread of its own that needs no Python: native code may hold the interpreter.
        faulthandler.dump_traceback_later(patience + BACKSTOP_SECONDS, exit=True, file=self._hang)
        try:
            yield
        finally:
            timer.cancel()
            faulthandler.cancel_dump_traceback_later()

    def _end_job(self, name: str, seconds: float) -> None:
        if self._hang is not None:
            self._hang.write(f"{name}\n")
            self._hang.flush()
        message = (
            f"rcdp: error: rank {self.rank}: the candidate {name} has not come back after {seconds:g} s "
            f"(search.candidate_seconds = {self.limit:g}): it hangs, and the job is ended. Start again to go on; the "
            "candidate will count as failed."
        )
        print(message, file=sys.stderr, flush=True)
        self.abort(1)

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, self._hang):
            # Lines are flushed one by one: what a full disk left in the buffer has been reported already.
            with suppress(OSError):
                if file is not None:
                    file.close()
        self._file = self._hang = None


def read_journals(folder: Path, digest: str) -> dict[Key, Evaluation]:
    """Return what the ranks of earlier jobs found, by the bytes of the values and the share of the rows.

    Lines of other settings are passed over. So are those that were cut short or altered, and their number is logged:
    their candidates are evaluated again. A candidate that hung counts as failed.
    """
    found: dict[Key, Evaluation] = {}
    damaged: dict[str, int] = {}
    for path in sorted((folder / FOLDER).glob("rank-*-?.jsonl")):
        lines, skipped = _lines(path, digest)
        damaged |= {path.name: skipped} if skipped else {}
        for line in lines:
            if line["result"] is not None:
                fitness, error, accuracy, seconds = line["result"]
                found[_key(line)] = Evaluation(fitness, error, accuracy, seconds, line["reason"], line["rank"])
    if damaged:
        log.warning(
            "%s: %d lines of %s were cut short or altered and are left out; their candidates are evaluated again",
            *(folder / FOLDER, sum(damaged.values()), ", ".join(damaged)),
        )
    for path in sorted((folder / FOLDER).glob("rank-*.hang")):
        if path.stat().st_size == 0:
            continue
        turns = [_lines(path.with_name(f"{path.stem}-{turn}.jsonl"), digest)[0] for turn in (0, 1)]
        # the last line of the newer file tells which candidate was being evaluated
        last = max((lines[-1] for lines in turns if lines), key=lambda line: line["generation"], default=None)
        if last is not None and last["result"] is None and _key(last) not in found:
            found[_key(last)] = Evaluation(
                -np.inf, np.nan, np.nan, last["limit"], f"hung: did not come back within {last['limit']:g} s",
                last["rank"],
            )  # fmt: skip
    return found


def remove_journals(folder: Path) -> None:
    """Remove the journals of a search that is done."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _newest(path: Path, digest: str) -> int:
    """Return the newest generation in a file, -1 if it has none."""
    return max((line["generation"] for line in _lines(path, digest)[0]), default=-1)


def _lines(path: Path, digest: str) -> tuple[list[dict[str, Any]], int]:
    """Return the intact lines of a search of these settings, and how many lines are damaged."""
    lines = read_intact_lines(path)
    return [line for line in lines.records if line.get("digest") == digest], len(lines.damaged)


def _key(line: dict[str, Any]) -> Key:
    return np.array(line["values"], dtype=np.float64).tobytes(), line["share"]
