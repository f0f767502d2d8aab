"""Training without damaged shards: what they lose is refilled from the reserve, on all ranks alike."""

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
from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.data.split import RESERVE, interleaved_labels
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree

log = logging.getLogger(__name__)

# Rows of the reserve that lie no further apart are read in one piece.
GAP_ROWS = 64


@dataclass(frozen=True)
class Refill:
    """What became of one damaged shard.

    Attributes
    ----------
    file : str
        The shard's name.
    reason : str
        Why it is left out.
    lost : list of int
        Its rows of each class.
    refilled : list of int
        How many of these come from the reserve instead. The rest is missing.
    """

    file: str
    reason: str
    lost: list[int]
    refilled: list[int]

    @property
    def missing(self) -> list[int]:
        """Rows of each class that nothing stands in for."""
        return [lost - refilled for lost, refilled in zip(self.lost, self.refilled, strict=True)]


@dataclass(frozen=True)
class _Segment:
    """Consecutive rows of the refilled training part: rows of training from `start`, or rows of the reserve."""

    rows: int
    start: int = 0
    reserve: NDArray[np.int64] | None = None


class RefilledShards(ShardSet):
    """The shards of a run directory without the damaged ones among its training shards.

    A lost row is replaced by the next unused row of its class in the reserve, which takes its place. Which class a lost
    row had follows from the order of rows alone (`rcdp_hpc.data.split.interleaved_labels`), so the damaged file is not
    needed. Where the reserve has too few rows of a class, the last places of that class in the file are closed up.

    Parameters
    ----------
    directory : Path
        Folder of the shards.
    verify : bool
        As in `ShardSet`.
    damaged : dict of str to str
        Names of training and reserve shards to leave out, with the reason. The reserve is dealt in this order, so that
        one more damaged file does not change what stands in for those before it.

    Attributes
    ----------
    damaged_files : dict of str to str
        The same.
    refills : list of Refill
        What became of each training shard among them.

    Raises
    ------
    DataDamagedError
        If the order of rows is not the one that this package writes, or no training row is left.
    """

    def __init__(self, directory: Path, verify: bool, damaged: dict[str, str]) -> None:
        super().__init__(directory, verify)
        self.damaged_files = damaged
        self.refills: list[Refill] = []
        shards = self._entry("train")["shards"]
        fills = self._deal()
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
        """Return the number of rows of a split, refilled."""
        return self._ends[-1] if split == "train" else super().rows(split)

    def class_counts(self, split: str) -> NDArray[np.int64]:
        """Return the number of rows of each class, shape (C,), refilled."""
        counts = super().class_counts(split)
        if split == "train":
            for refill in self.refills:
                counts = counts - refill.missing
        return counts

    def damaged(self, split: str, start: int, stop: int, check_stop: Callable[[], None]) -> dict[str, str]:
        """Return the names of the files that some rows lie in and that are damaged; see `ShardSet.damaged`."""
        if split != "train":
            return super().damaged(split, start, stop, check_stop)
        found: dict[str, str] = {}
        for segment, low, high in self._parts(start, stop):
            if segment.reserve is None:
                found |= super().damaged("train", segment.start + low, segment.start + high, check_stop)
            else:
                for rows in _runs(segment.reserve[low:high]):
                    found |= super().damaged(RESERVE, int(rows[0]), int(rows[-1]) + 1, check_stop)
        return found

    def _stored(self, split: str, start: int, stop: int, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        if split != "train" or start == stop:
            return super()._stored(split, start, stop, names)
        if not 0 <= start < stop <= self.rows(split):
            raise IndexError(f"rows {start} to {stop} of {split}, which has {self.rows(split)}")
        pieces = [
            super(RefilledShards, self)._stored("train", segment.start + low, segment.start + high, names)
            if segment.reserve is None
            else self._from_reserve(segment.reserve[low:high], names)
            for segment, low, high in self._parts(start, stop)
        ]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}

    def _from_reserve(self, rows: NDArray[np.int64], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        result = {name: np.empty((len(rows), *self._shape(name)), self._dtype(name)) for name in names}
        for run in _runs(rows):
            found = super()._stored(RESERVE, int(run[0]), int(run[-1]) + 1, names)
            mine = np.flatnonzero((rows >= run[0]) & (rows <= run[-1]))
            for name, values in found.items():
                result[name][mine] = values[rows[mine] - run[0]]
        return result

    def _parts(self, start: int, stop: int) -> Iterator[tuple[_Segment, int, int]]:
        """Yield the segments that hold some of the rows, and which of the segment's own rows they are."""
        for segment, end in zip(self._segments, self._ends, strict=True):
            first = end - segment.rows
            low, high = max(start, first), min(stop, end)
            if low < high:
                yield segment, low - first, high - first

    def _deal(self) -> dict[str, NDArray[np.int64]]:
        """Return the rows of the reserve that stand in for each damaged training shard."""
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
            own = labels[start : start + shard["rows"]]
            if np.bincount(own, minlength=classes).tolist() != shard["class_counts"]:
                raise DataDamagedError(f"{self.directory / file}: its rows have an order of their own. {REPAIR_ADVICE}")
            chosen = np.full(len(own), -1)
            for label in np.unique(own):
                lost = np.flatnonzero(own == label)
                taken, free[label] = free[label][: len(lost)], free[label][len(lost) :]
                chosen[lost[: len(taken)]] = taken
            refilled = np.bincount(own[chosen >= 0], minlength=classes).tolist()
            self.refills.append(Refill(file, reason, shard["class_counts"], refilled))
            fills[file] = chosen[chosen >= 0]
        return fills

    def _free_rows(self) -> list[NDArray[np.int64]]:
        """Return the rows of each class in the sound shards of the reserve, ascending."""
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
    shards: ShardSet,
    known: dict[str, str],
    search: bool,
    own_rows: Callable[[int], tuple[int, int]],
    check_stop: Callable[[], None],
) -> ShardSet:
    """Return the shards without the damaged training files among them, the same view on every rank. Collective.

    Every rank opens the files that its rows lie in; what one finds damaged, all leave out. As a refilled file may come
    from a damaged part of the reserve, and missing rows move the ranks' shares, they look again until nothing is found.

    Parameters
    ----------
    comm : Communicator
        All ranks.
    shards : ShardSet
        The shards as they were prepared.
    known : dict of str to str
        Files that are left out already, with the reason.
    search : bool
        Whether to look for more; otherwise reading stops at the first one, by name.
    own_rows : callable
        Given the number of training rows, returns the first row of this rank and the one behind its last.
    check_stop : callable
        Called before each file; what it raises ends the search.

    Returns
    -------
    ShardSet
        `shards` itself where nothing is damaged, and otherwise a `RefilledShards`.

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
        rows = own_rows(view.rows("train"))
        mine = agree(comm, partial(view.damaged, "train", *rows, check_stop))
        found = {file: reason for part in comm.allgather(mine) for file, reason in part.items()}
        if not found:
            return view
        damaged = {**damaged, **{file: found[file] for file in sorted(found)}}


def replaced_files(view: ShardSet) -> dict[str, str]:
    """Return the files that a view leaves out, with the reason."""
    return view.damaged_files if isinstance(view, RefilledShards) else {}


def log_replaced(view: RefilledShards, known: dict[str, str]) -> None:
    """Log what became of every damaged file, those known before without the details."""
    for file, reason in view.damaged_files.items():
        if file in known:
            log.info("%s stays replaced, as in the checkpoint", file)
        elif all(refill.file != file for refill in view.refills):
            log.warning("%s Nothing is taken from this part of the reserve.", reason)
    for refill in view.refills:
        if refill.file in known:
            continue
        log.warning(
            "%s Left out on all ranks: of its %d training rows, %d are refilled from the reserve%s",
            *(refill.reason, sum(refill.lost), sum(refill.refilled), _missing_text(view.classes, refill.missing)),
        )


def _missing_text(classes: list[str], missing: list[int]) -> str:
    short = [f"{count} of class {name}" for name, count in zip(classes, missing, strict=True) if count]
    if not short:
        return ", class by class"
    more = f" and {len(short) - 10} classes more" if len(short) > 10 else ""
    return f"; missing are {', '.join(short[:10])}{more} (a larger data.reserve would hold them)"


def replacement_record(view: RefilledShards) -> dict[str, Any]:
    """Return what was replaced, for a file in the run directory."""
    return {
        "shards": view.digest,
        "damaged": view.damaged_files,
        "refills": [{**asdict(refill), "missing": refill.missing} for refill in view.refills],
        "rows": view.rows("train"),
        "class_counts": view.class_counts("train").tolist(),
    }


def _runs(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut rows, sorted, where they lie far apart."""
    if not len(rows):
        return []
    ordered = np.sort(rows)
    return np.split(ordered, np.flatnonzero(np.diff(ordered) > GAP_ROWS) + 1)
