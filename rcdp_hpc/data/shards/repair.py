"""Training without damaged shards: rows of the reserve replace the lost rows, in the same way on all ranks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.shards.index import REPAIR_ADVICE
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.split import RESERVE, interleaved_labels
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree

log = logging.getLogger(__name__)

# Rows of the reserve with at most this distance between them are read together.
GAP_ROWS = 64


@dataclass(frozen=True)
class Refill:
    """The replacement of one damaged shard.

    Attributes
    ----------
    file : str
        File name of the shard.
    reason : str
        The damage.
    lost : list of int
        Rows of each class in the shard.
    refilled : list of int
        Rows of each class that come from the reserve instead.
    """

    file: str
    reason: str
    lost: list[int]
    refilled: list[int]

    @property
    def missing(self) -> list[int]:
        """Rows of each class that are not replaced."""
        return [lost - refilled for lost, refilled in zip(self.lost, self.refilled, strict=True)]


@dataclass(frozen=True)
class _Segment:
    """Consecutive rows of the refilled training part: rows of training from `start`, or else rows of the reserve."""

    rows: int
    start: int = 0
    reserve: NDArray[np.int64] | None = None


class RefilledShards(ShardReader):
    """The shards of a run directory without damaged training shards.

    The next unused row of the same class in the reserve replaces a lost row, in the same position. The class of a lost
    row follows from the order of rows alone (`rcdp_hpc.data.split.interleaved_labels`), so the damaged file is not
    read. If the reserve has too few rows of a class, the last rows of that class in the file are missing, and the rows
    after them move up.

    Parameters
    ----------
    directory : Path
        Folder of the shards.
    verify : bool
        As in `ShardReader`.
    damaged : dict of str to str
        Names of damaged training and reserve shards, with the damage. Rows of the reserve are assigned in this order,
        so that another damaged file at the end does not change the replacements of the others.

    Attributes
    ----------
    damaged_files : dict of str to str
        The parameter `damaged`.
    refills : list of Refill
        The replacement of each damaged training shard.

    Raises
    ------
    DataDamagedError
        If the rows do not have the order that this package writes, or no training row remains.
    """

    def __init__(self, directory: Path, verify: bool, damaged: dict[str, str]) -> None:
        super().__init__(directory, verify)
        self.damaged_files = damaged
        self.refills: list[Refill] = []
        shards = self._entry("train")["shards"]
        fills = self._assign_reserve_rows()
        self._segments = [
            _Segment(len(fills[shard["file"]]), reserve=fills[shard["file"]])
            if shard["file"] in fills
            else _Segment(shard["rows"], start=start)
            for shard, start in zip(shards, self._starts["train"], strict=False)
        ]
        self._ends = list(accumulate(segment.rows for segment in self._segments))
        if not self._ends[-1]:
            raise DataDamagedError(f"{self.directory}: every training shard is damaged. {REPAIR_ADVICE}")

    def rows(self, split: str) -> int:
        """Return the number of rows of a split after refilling."""
        return self._ends[-1] if split == "train" else super().rows(split)

    def class_counts(self, split: str) -> NDArray[np.int64]:
        """Return the number of rows of each class after refilling, shape (C,)."""
        counts = super().class_counts(split)
        if split == "train":
            for refill in self.refills:
                counts = counts - refill.missing
        return counts

    def damaged(self, split: str, start: int, stop: int, check_stop: Callable[[], None]) -> dict[str, str]:
        """Return the damaged files among those that hold some rows; see `ShardReader.damaged`."""
        if split != "train":
            return super().damaged(split, start, stop, check_stop)
        damage: dict[str, str] = {}
        for segment, low, high in self._segments_of(start, stop):
            if segment.reserve is None:
                damage |= super().damaged("train", segment.start + low, segment.start + high, check_stop)
            else:
                for rows in _runs(segment.reserve[low:high]):
                    damage |= super().damaged(RESERVE, int(rows[0]), int(rows[-1]) + 1, check_stop)
        return damage

    def _stored(self, split: str, start: int, stop: int, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        if split != "train" or start == stop:
            return super()._stored(split, start, stop, names)
        if not 0 <= start < stop <= self.rows(split):
            raise IndexError(f"rows {start} to {stop} of {split}, which has {self.rows(split)}")
        pieces = [
            super(RefilledShards, self)._stored("train", segment.start + low, segment.start + high, names)
            if segment.reserve is None
            else self._from_reserve(segment.reserve[low:high], names)
            for segment, low, high in self._segments_of(start, stop)
        ]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}

    def _from_reserve(self, rows: NDArray[np.int64], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        result = {name: np.empty((len(rows), *self._shape(name)), self._dtype(name)) for name in names}
        for run in _runs(rows):
            stored = super()._stored(RESERVE, int(run[0]), int(run[-1]) + 1, names)
            positions = np.flatnonzero((rows >= run[0]) & (rows <= run[-1]))
            for name, values in stored.items():
                result[name][positions] = values[rows[positions] - run[0]]
        return result

    def _segments_of(self, start: int, stop: int) -> Iterator[tuple[_Segment, int, int]]:
        """Yield each segment with some of the rows, and the range of the rows within the segment."""
        for segment, end in zip(self._segments, self._ends, strict=True):
            first = end - segment.rows
            low, high = max(start, first), min(stop, end)
            if low < high:
                yield segment, low - first, high - first

    def _assign_reserve_rows(self) -> dict[str, NDArray[np.int64]]:
        """Return the rows of the reserve that replace the rows of each damaged training shard."""
        labels = interleaved_labels(super().class_counts("train").tolist())
        free, fills = self._free_rows(), {}
        places = {
            shard["file"]: (shard, start)
            for shard, start in zip(self._entry("train")["shards"], self._starts["train"], strict=False)
        }
        classes = len(self.classes)
        for file, reason in self.damaged_files.items():
            if file not in places:
                continue
            shard, start = places[file]
            shard_labels = labels[start : start + shard["rows"]]
            if np.bincount(shard_labels, minlength=classes).tolist() != shard["class_counts"]:
                raise DataDamagedError(
                    f"{self.directory / file}: its rows do not have the order that rcdp prepare writes. {REPAIR_ADVICE}"
                )
            chosen = np.full(len(shard_labels), -1)
            for label in np.unique(shard_labels):
                lost = np.flatnonzero(shard_labels == label)
                taken, free[label] = free[label][: len(lost)], free[label][len(lost) :]
                chosen[lost[: len(taken)]] = taken
            refilled = np.bincount(shard_labels[chosen >= 0], minlength=classes).tolist()
            self.refills.append(Refill(file, reason, shard["class_counts"], refilled))
            fills[file] = chosen[chosen >= 0]
        return fills

    def _free_rows(self) -> list[NDArray[np.int64]]:
        """Return the rows of each class in the undamaged shards of the reserve, ascending."""
        if RESERVE not in self.splits:
            return [np.empty(0, np.int64)] * len(self.classes)
        labels = interleaved_labels(super().class_counts(RESERVE).tolist())
        sound = np.ones(len(labels), bool)
        for shard, start in zip(self._entry(RESERVE)["shards"], self._starts[RESERVE], strict=False):
            if shard["file"] in self.damaged_files:
                sound[start : start + shard["rows"]] = False
        return [np.flatnonzero(sound & (labels == label)) for label in range(len(self.classes))]


def without_damaged(
    comm: Communicator,
    shards: ShardReader,
    known: dict[str, str],
    search: bool,
    local_rows: Callable[[int], tuple[int, int]],
    check_stop: Callable[[], None],
) -> ShardReader:
    """Return the shards without damaged training files, the same on every rank. Collective.

    Every rank checks the files of its rows. All ranks leave out a file that any rank finds damaged. Replacements may
    come from a damaged file of the reserve, and missing rows shift the rows of each rank, so that the ranks repeat the
    check until they find no more damage.

    Parameters
    ----------
    comm : Communicator
        All ranks.
    shards : ShardReader
        The shards as prepared.
    known : dict of str to str
        Files that are known to be damaged, with the damage.
    search : bool
        Whether to check for more damage. Without it, reading raises an error at the first damaged file.
    local_rows : callable
        Maps the number of training rows to the first row of this rank and the one after its last row.
    check_stop : callable
        Called before each file; raises an exception to stop.

    Returns
    -------
    ShardReader
        `shards` if nothing is damaged, else a `RefilledShards`.

    Raises
    ------
    DataDamagedError
        As `RefilledShards`.
    """
    damaged = dict(known)
    view = shards
    while True:
        if damaged:
            view = agree(comm, partial(RefilledShards, shards.directory, shards.verify, damaged))
            view.local_copies = shards.local_copies
        if not search:
            return view
        rows = local_rows(view.rows("train"))
        local_damage = agree(comm, partial(view.damaged, "train", *rows, check_stop))
        damage = {file: reason for part in comm.allgather(local_damage) for file, reason in part.items()}
        if not damage:
            return view
        damaged = {**damaged, **{file: damage[file] for file in sorted(damage)}}


def replaced_files(view: ShardReader) -> dict[str, str]:
    """Return the damaged files that are left out, with the damage."""
    return view.damaged_files if isinstance(view, RefilledShards) else {}


def log_replaced(view: RefilledShards, known: dict[str, str]) -> None:
    """Log the replacement of every damaged file, without details for those in `known`."""
    for file, reason in view.damaged_files.items():
        if file in known:
            log.info("%s: still replaced, as in the checkpoint", file)
        elif all(refill.file != file for refill in view.refills):
            log.warning("%s No row of this file of the reserve is used.", reason)
    for refill in view.refills:
        if refill.file in known:
            continue
        log.warning(
            "%s Left out on all ranks: rows of the reserve replace %d of its %d training rows%s",
            *(refill.reason, sum(refill.refilled), sum(refill.lost), _missing_text(view.classes, refill.missing)),
        )


def _missing_text(classes: list[str], missing: list[int]) -> str:
    short = [f"{count} of class {name}" for name, count in zip(classes, missing, strict=True) if count]
    if not short:
        return ", each by a row of its class"
    more = f" and {len(short) - 10} more classes" if len(short) > 10 else ""
    return f"; missing: {', '.join(short[:10])}{more} (set a larger data.reserve to avoid this)"


def replacement_record(view: RefilledShards) -> dict[str, Any]:
    """Return the damaged files and their replacements, for a file in the run directory."""
    return {
        "shards": view.digest,
        "damaged": view.damaged_files,
        "refills": [{**asdict(refill), "missing": refill.missing} for refill in view.refills],
        "rows": view.rows("train"),
        "class_counts": view.class_counts("train").tolist(),
    }


def _runs(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return sorted rows, divided at large gaps."""
    if not len(rows):
        return []
    ordered = np.sort(rows)
    return np.split(ordered, np.flatnonzero(np.diff(ordered) > GAP_ROWS) + 1)
