"""Checks of the origin of rows: splits share no sample, and synthetic rows agree with the balancing method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config.choices import balancing_choice
from rcdp_hpc.data.balancing.lengths import resample_steps
from rcdp_hpc.data.balancing.suitability import reserve_method
from rcdp_hpc.data.rows import on_segment
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.split import RESERVE, SPLITS

GROUP_BYTES = 2**28
BLOCK_BYTES = 2**25
QUERY_ROWS = 512
# Squared distances are differences of products: equal ones may differ by this, relative to the squared norms.
TIE_TOLERANCE = 1e-9
# Rounding errors of each term of such a difference.
ROUNDINGS = 4

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class SyntheticRules:
    """Properties that synthetic rows must have; they follow from the balancing method.

    Attributes
    ----------
    neighbours : int
        Nearest neighbours k.
    nearest : bool
        Whether the neighbour of a row is one of the k nearest samples of the class.
    cleaned : bool
        Whether the balancing may have removed samples of which rows were made.
    rows : str
        As in `rcdp_hpc.config.choices.BalancingChoice`. Of "values", only the origin can be checked.
    least_step : float
        Lowest step: SVMSMOTE has negative steps, away from the neighbour.
    shape : tuple of int
        Shape of a sample.
    storage : Storage
        How samples are stored.
    categories : tuple of int
        Features that hold categories, which are not interpolated.
    masks : int
        Mask channels of missing values, the last entries of a sample's last axis, which are those of x_i.
    """

    neighbours: int
    nearest: bool
    cleaned: bool
    rows: str
    least_step: float
    shape: tuple[int, ...]
    storage: Storage
    categories: tuple[int, ...]
    masks: int

    @classmethod
    def of(cls, shards: ShardReader, split: str = "train") -> SyntheticRules:
        """Return the rules for the synthetic rows of the training part or of the reserve."""
        data = shards.index["settings"]["data"]
        categories = tuple(shards.index.get("categories", ()))
        method = reserve_method(data["balance"], categories) if split == RESERVE else data["balance"]
        choice = balancing_choice(method)
        return cls(
            int(data["smote_neighbours"]),
            choice.nearest,
            choice.cleans,
            choice.rows,
            choice.least_step,
            shards.sample_shape,
            shards.layout.storage,
            categories,
            len((shards.index["standardization"] or {}).get("mask", ())),
        )

    @property
    def is_mask(self) -> NDArray[np.bool_]:
        """Whether each entry of a flattened sample belongs to a mask channel."""
        last = np.arange(self.shape[-1]) >= self.shape[-1] - self.masks
        return np.broadcast_to(last, self.shape).reshape(-1)


def provenance_findings(
    shards: ShardReader,
    columns: dict[str, Columns],
    advance: Callable[[int], None] = lambda classes: None,
    share: tuple[int, int] = (0, 1),
) -> list[str]:
    """Check that splits share no sample, and that synthetic rows are made of training samples as the method makes them.

    Parameters
    ----------
    shards : ShardReader
        Shards whose files are undamaged.
    columns : dict
        For each split: ``y``, ``synthetic``, ``source_index``, ``neighbour_index``, ``step`` (and ``length``).
    advance : callable
        Called with the number of classes that have been checked, 0 between blocks of work; may raise to stop.
    share : tuple of int
        This rank and the number of ranks. A rank checks every n-th class; rank 0 also checks all classes together.

    Returns
    -------
    list of str
        The problems, one line for each.
    """
    findings = _shared_samples(columns) + _misplaced(columns)
    if findings:
        return findings if share[0] == 0 else []
    tables = [SyntheticTable.of_train(columns["train"])]
    if RESERVE in columns:
        tables.append(SyntheticTable.of_reserve(columns["train"], columns[RESERVE]))
    if SyntheticRules.of(shards).cleaned:
        findings = _made_of_other_parts(columns)
    for table in tables:
        findings += _foreign_seeds(table, SyntheticRules.of(shards, table.split))
    if findings:
        return findings if share[0] == 0 else []
    for table in tables:
        rules = SyntheticRules.of(shards, table.split)
        for group in _class_groups(shards, table, share):
            x, rows = _read_group(shards, group, table, advance)
            for label in group:
                findings += _class_findings(shards.classes[label], rules, table, label, x, rows, advance)
                advance(1)
    return findings


@dataclass(frozen=True)
class SyntheticTable:
    """Synthetic rows and the original rows of which they are made.

    Attributes
    ----------
    columns : dict
        As in the shards.
    places : list of (str, ndarray of int64)
        The rows of each split in the table, in order: the split and its row numbers, ascending.
    split : str
        The split of the synthetic rows: "train" or "reserve".
    """

    columns: Columns
    places: list[tuple[str, NDArray[np.int64]]]
    split: str

    @classmethod
    def of_train(cls, train: Columns) -> SyntheticTable:
        """Return the table of the training part, which holds both."""
        return cls(train, [("train", np.arange(len(train["y"])))], "train")

    @classmethod
    def of_reserve(cls, train: Columns, reserve: Columns) -> SyntheticTable:
        """Return the table of the reserve: the original rows of training, then the reserve, all of it synthetic."""
        originals = np.flatnonzero(~train["synthetic"])
        columns = {name: np.concatenate([values[originals], reserve[name]]) for name, values in train.items()}
        return cls(columns, [("train", originals), (RESERVE, np.arange(len(reserve["y"])))], RESERVE)

    def row_name(self, row: int) -> str:
        """Return the row number of a synthetic row in its split, as text for a message."""
        before = sum(len(rows) for part, rows in self.places if part != self.split)
        return f"row {row - before}"

    def locate(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices in the source of the original rows, ascending, and the row number of each."""
        rows = np.flatnonzero(~self.columns["synthetic"])
        order = np.argsort(self.columns["source_index"][rows])
        return self.columns["source_index"][rows][order], rows[order]


def _shared_samples(columns: dict[str, Columns]) -> list[str]:
    """Find samples that are an original row twice, in one split or in two."""
    findings = []
    originals = {split: columns[split]["source_index"][~columns[split]["synthetic"]] for split in SPLITS}
    for split, indices in originals.items():
        if len(np.unique(indices)) != len(indices):
            findings.append(f"{split}: a sample of the source occurs twice")
    for number, first in enumerate(SPLITS):
        for second in SPLITS[number + 1 :]:
            both = np.intersect1d(originals[first], originals[second])
            if len(both):
                findings.append(
                    f"{first} and {second} share {len(both)} samples of the source, for example number {both[0]}"
                )
    return findings


def _misplaced(columns: dict[str, Columns]) -> list[str]:
    """Find synthetic rows outside of training, and rows with contradicting columns."""
    findings = []
    for split in columns:
        synthetic, neighbour = columns[split]["synthetic"], columns[split]["neighbour_index"]
        if split in ("validation", "test") and synthetic.any():
            findings.append(f"{split}: {int(synthetic.sum())} synthetic rows; only training may have synthetic rows")
        if split == RESERVE and not synthetic.all():
            findings.append(f"{split}: {int((~synthetic).sum())} rows that are not synthetic")
        wrong = (neighbour >= 0) != synthetic
        if wrong.any():
            findings.append(
                f"{split}: row {int(np.argmax(wrong))} is synthetic without a neighbour, or original with one"
            )
    return findings


def _made_of_other_parts(columns: dict[str, Columns]) -> list[str]:
    """Find synthetic rows that are made of samples of validation or test."""
    train, findings = columns["train"], []
    synthetic = train["synthetic"]
    for split in ("validation", "test"):
        for key in ("source_index", "neighbour_index"):
            used = int(np.isin(train[key][synthetic], columns[split]["source_index"]).sum())
            if used:
                findings.append(f"train: {used} synthetic rows have a {key} that is a sample of {split}")
    return findings


def _foreign_seeds(table: SyntheticTable, rules: SyntheticRules) -> list[str]:
    """Find synthetic rows that are not made of training samples of their class."""
    train, name = table.columns, table.split
    seeds, places = table.locate()
    synthetic = np.flatnonzero(train["synthetic"])
    findings = []
    for key in ("source_index", "neighbour_index"):
        positions = _find(seeds, train[key][synthetic])
        foreign = positions < 0
        if foreign.any() and not rules.cleaned:
            findings.append(f"{name}: {int(foreign.sum())} synthetic rows have a {key} that is not a training sample")
        elif (train["y"][places[positions[~foreign]]] != train["y"][synthetic[~foreign]]).any():
            findings.append(f"{name}: synthetic rows have a {key} of another class")
    copies = train["source_index"][synthetic] == train["neighbour_index"][synthetic]
    # In a fold of a cross-validation, the only sample of a class is repeated.
    several = np.bincount(train["y"][places], minlength=int(train["y"].max()) + 1) > 1
    if (copies & several[train["y"][synthetic]]).any() and rules.rows == "segments":
        findings.append(f"{name}: synthetic rows have their own source as neighbour")
    if rules.rows == "copies" and not copies.all():
        findings.append(f"{name}: synthetic rows are not copies, as data.balance = 'random_over' makes them")
    if ((train["step"][synthetic] < rules.least_step) | ~(train["step"][synthetic] <= 1)).any():
        findings.append(f"{name}: synthetic rows have a step that is not between {rules.least_step:g} and 1")
    return findings


def _find(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of each wanted number, -1 if it is missing."""
    if len(ascending) == 0:
        return np.full(len(wanted), -1)
    places = np.searchsorted(ascending, wanted).clip(max=len(ascending) - 1)
    return np.where(ascending[places] == wanted, places, -1)


def _class_groups(shards: ShardReader, table: SyntheticTable, share: tuple[int, int]) -> Iterator[list[int]]:
    """Yield groups of classes with synthetic rows, of the share of this rank, each group small enough for memory."""
    labels = table.columns["y"]
    synthetic = np.bincount(labels[table.columns["synthetic"]], minlength=len(shards.classes))
    counts = np.bincount(labels, minlength=len(shards.classes))
    row_bytes = 4 * int(np.prod(shards.sample_shape))
    group: list[int] = []
    held = 0
    for label in np.flatnonzero(synthetic)[share[0] :: share[1]].tolist():
        size = int(counts[label]) * row_bytes
        if group and held + size > GROUP_BYTES:
            yield group
            group, held = [], 0
        group.append(label)
        held += size
    if group:
        yield group


def _read_group(
    shards: ShardReader, group: list[int], table: SyntheticTable, advance: Callable[[int], None]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return all rows of a group of classes, flattened, and their row numbers in the table, ascending."""
    wanted = np.isin(table.columns["y"], group)
    width = int(np.prod(shards.sample_shape))
    x = np.empty((int(wanted.sum()), width), np.float32)
    block = max(1, BLOCK_BYTES // (4 * width))
    done, first = 0, 0
    for split, places in table.places:
        rows = places[wanted[first : first + len(places)]]
        first += len(places)
        for start, stop in pairwise([*range(0, shards.rows(split), block), shards.rows(split)]):
            advance(0)
            low, high = np.searchsorted(rows, (start, stop))
            if low < high:
                values = shards.columns(split, start, stop, ("x",))["x"][rows[low:high] - start]
                x[done + low : done + high] = values.reshape(-1, width)
        done += len(rows)
    return x, np.flatnonzero(wanted)


def _class_findings(
    name: str,
    rules: SyntheticRules,
    table: SyntheticTable,
    label: int,
    x: NDArray[np.float32],
    rows: NDArray[np.int64],
    advance: Callable[[int], None],
) -> list[str]:
    """Check the segments and neighbours of one class; `x` holds the rows with the numbers `rows` of all classes."""
    if rules.rows == "values":
        return []
    class_rows = np.flatnonzero(table.columns["y"][rows] == label)
    columns = {key: values[rows[class_rows]] for key, values in table.columns.items()}
    synthetic, originals = np.flatnonzero(columns["synthetic"]), np.flatnonzero(~columns["synthetic"])
    originals = originals[np.argsort(columns["source_index"][originals])]
    seeds = columns["source_index"][originals]
    start, end = _find(seeds, columns["source_index"][synthetic]), _find(seeds, columns["neighbour_index"][synthetic])
    base = x[class_rows[originals]]
    lengths = columns["length"][originals].astype(np.int64) if "length" in columns else None
    findings: list[str] = []
    # Cleaning may have removed a sample of which a row was made.
    complete = (start >= 0) & (end >= 0)
    synthetic, start, end = synthetic[complete], start[complete], end[complete]
    off = _off_segment(x, class_rows[synthetic], base, lengths, start, end, columns["step"][synthetic], rules)
    if len(off):
        findings.append(
            f"{table.split}: class {name}: {len(off)} synthetic rows are not on the segment of their samples, "
            f"for example {table.row_name(int(rows[class_rows[synthetic[off[0]]]]))}"
        )
    if not rules.nearest:
        return findings
    if lengths is not None:
        base = resample_steps(base.reshape(-1, *rules.shape), lengths, rules.shape[0]).reshape(base.shape)
    k = min(rules.neighbours, len(base) - 1)
    far = _too_far(base.astype(np.float64), start, end, k, advance)
    if len(far):
        findings.append(
            f"{table.split}: class {name}: {len(far)} synthetic rows have a neighbour that is not among the {k} "
            f"nearest, for example {table.row_name(int(rows[class_rows[synthetic[far[0]]]]))}"
        )
    return findings


def _off_segment(
    x: NDArray[np.float32],
    synthetic: NDArray[np.int64],
    base: NDArray[np.float32],
    lengths: NDArray[np.int64] | None,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    step: NDArray[np.float32],
    rules: SyntheticRules,
) -> NDArray[np.int64]:
    """Return the synthetic rows that differ from their segment by more than the rounding of stored numbers."""
    wrong = []
    linear = np.setdiff1d(np.arange(x.shape[1]), rules.categories)
    block = max(1, BLOCK_BYTES // (4 * x.shape[1]))
    for low in range(0, len(synthetic), block):
        part = slice(low, low + block)
        first, second = base[start[part]], base[end[part]]
        if lengths is not None:
            second = resample_steps(second.reshape(-1, *rules.shape), lengths[end[part]], lengths[start[part]])
            second = second.reshape(first.shape)
        # Rows of SVMSMOTE may be outside of their segment, and so outside of the range of bytes.
        expected = rules.storage.clipped(np.where(rules.is_mask, first, on_segment(first, second, step[part])))
        # A machine may fuse the multiplication and the addition, which rounds differently.
        room = 4 * np.finfo(np.float32).eps * (np.abs(first) + np.abs(second)) + rules.storage.tolerance(expected)
        good = (np.abs(x[synthetic[part]] - expected) <= room)[:, linear].all(axis=1)
        wrong.append(low + np.flatnonzero(~good))
    return np.concatenate(wrong) if wrong else np.empty(0, np.int64)


def _too_far(
    base: NDArray[np.float64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    k: int,
    advance: Callable[[int], None],
) -> NDArray[np.int64]:
    """Return the pairs that are further apart than `start` and its k-th nearest other sample, ties allowed."""
    # Preparation searches neighbours without centring the samples: far from 0, rounding may exchange near ties.
    blur = np.sqrt(base.shape[1]) * np.finfo(np.float64).eps * np.einsum("ij,ij->i", base, base)
    base = base - base.mean(axis=0)
    square = np.einsum("ij,ij->i", base, base)
    reach = np.full(len(base), np.nan)
    used = np.unique(start)
    for low in range(0, len(used), QUERY_ROWS):
        advance(0)
        chosen = used[low : low + QUERY_ROWS]
        distance = square[chosen, None] + square - 2 * base[chosen] @ base.T
        distance[np.arange(len(chosen)), chosen] = np.inf
        reach[chosen] = np.partition(distance, k - 1, axis=1)[:, k - 1]
    wrong = []
    block = max(1, BLOCK_BYTES // (8 * base.shape[1]))
    for low in range(0, len(start), block):
        first, second = start[low : low + block], end[low : low + block]
        apart = np.einsum("ij,ij->i", base[first] - base[second], base[first] - base[second])
        room = TIE_TOLERANCE * (square[first] + square[second]) + ROUNDINGS * (blur[first] + blur[second])
        wrong.append(low + np.flatnonzero(~(apart <= reach[first] + room)))
    return np.concatenate(wrong) if wrong else np.empty(0, np.int64)
