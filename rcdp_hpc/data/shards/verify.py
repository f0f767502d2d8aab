"""Complete verification of shards: bytes, counts, class proportions, and the origin of every row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config.choices import BALANCING_METHODS, balancing_choice
from rcdp_hpc.data.balancing.reserve import reserve_size
from rcdp_hpc.data.balancing.targets import class_targets
from rcdp_hpc.data.shards.group_checks import group_findings
from rcdp_hpc.data.shards.index import FILE_PREFIX, INDEX_NAME, load_index
from rcdp_hpc.data.shards.provenance import provenance_findings
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.sample_ids import damaged_ids
from rcdp_hpc.data.split import RESERVE, Split
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.progress import Progress


@dataclass
class ShardReport:
    """What the verification of shards found.

    Attributes
    ----------
    findings : list of str
        The problems, one line for each, with the name of the file; empty if there are none.
    notes : list of str
        Groups of a separate test set that are in training, too, and samples that occur in two splits.
    groups : int
        Number of groups (patients, subjects, sites), none of which is on two sides of a split; 0 if there are no
        groups, or findings or notes about them.
    """

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    groups: int = 0


def verify_shards(
    directory: Path,
    check_stop: Callable[[], None] = lambda: None,
    progress: bool = False,
    comm: Communicator | None = None,
) -> list[str]:
    """Return the findings of `check_shards` without a search for samples that occur in two splits. Collective."""
    return check_shards(directory, check_stop, progress, comm, duplicates=False).findings


def check_shards(
    directory: Path,
    check_stop: Callable[[], None] = lambda: None,
    progress: bool = False,
    comm: Communicator | None = None,
    duplicates: bool = True,
) -> ShardReport:
    """Check every checksum, count, proportion, origin and group of the shards in a folder. Collective.

    The files, and then the classes, are divided among the ranks.

    Parameters
    ----------
    directory : Path
        Folder of the shards (``RUN/shards``).
    check_stop : callable
        Called between blocks of work; raises an exception to stop.
    progress : bool
        Show progress on rank 0.
    comm : Communicator, optional
        All ranks; default: this process only.
    duplicates : bool
        Look for samples that occur in two splits, equal or nearly so, if there are no problems.

    Returns
    -------
    ShardReport
        The same on every rank.

    Raises
    ------
    InputError
        If the folder holds no index.json.
    """
    comm = comm or SingleProcess()

    def load() -> dict[str, Any] | str:
        try:
            return load_index(directory)
        except DataDamagedError as error:
            return str(error)

    index = agree(comm, load)
    if isinstance(index, str):
        return ShardReport([index])
    steps = sum(len(split["shards"]) for split in index["splits"].values()) + len(index["classes"])
    with Progress(
        "verify", math.ceil(steps / comm.size), "files and classes", enabled=progress and comm.is_root
    ) as bar:

        def advance(done: int) -> None:
            bar.advance(done)
            check_stop()

        stray = agree(comm, lambda: _stray_files(directory, index) if comm.is_root else [])
        report = ShardReport(comm.broadcast(stray))
        report.findings = list(dict.fromkeys([*report.findings, *_content_findings(directory, comm, advance, report)]))
        if duplicates and not report.findings:
            report.notes += _duplicate_notes(directory, comm, advance)
        report.notes, report.groups = comm.broadcast((report.notes, report.groups))
        return report


def _duplicate_notes(directory: Path, comm: Communicator, advance: Callable[[int], None]) -> list[str]:
    """Return sentences about samples that occur in two splits, on rank 0. Collective."""
    # Only verification needs them, and they import scipy.
    from rcdp_hpc.data.shards.duplicates import equality_notes, read_digests
    from rcdp_hpc.data.shards.near_duplicates import near_duplicate_notes

    shards = ShardReader(directory, verify=False)
    digests = read_digests(shards, comm, advance)

    def notes() -> list[str]:
        return [*equality_notes(digests), *near_duplicate_notes(shards, digests, advance)]

    result = run_on_root(comm, notes)
    shards.close()
    return result


def _content_findings(
    directory: Path, comm: Communicator, advance: Callable[[int], None], report: ShardReport
) -> list[str]:
    shards = ShardReader(directory, verify=True)
    damaged = _gathered(
        comm, lambda: [finding for split in shards.splits for finding in _damaged_files(shards, split, comm, advance)]
    )
    # Every rank reads the columns of all rows, which are small, but only the samples of its share of the classes.
    shards = ShardReader(directory, verify=False)
    undamaged = [
        split
        for split in shards.splits
        if not any(f"{FILE_PREFIX[split]}-" in Path(f.split(":")[0]).name for f in damaged)
    ]

    def check_rows() -> list[str]:
        columns = {split: _read_columns(shards, split) for split in undamaged}
        findings: list[str] = []
        if comm.is_root:
            for split, content in columns.items():
                findings += _count_findings(shards, split, content)
                for rows in _ordered_parts(shards.index, split):
                    findings += _proportion_findings(split, content["y"][rows])
        # The origin of rows can only be checked with all splits.
        if len(columns) == len(shards.splits):
            if comm.is_root:
                findings += _balance_findings(shards.index)
                group_problems, notes = group_findings(shards.index, columns)
                findings += group_problems
                report.notes += notes
                entry = shards.index.get("groups")
                report.groups = len(entry["names"]) if entry and not group_problems and not notes else 0
            findings += provenance_findings(shards, dict(columns.items()), advance, (comm.rank, comm.size))
        shards.close()
        return findings

    return damaged + _gathered(comm, check_rows)


def _gathered(comm: Communicator, check: Callable[[], list[str]]) -> list[str]:
    """Run a check on every rank and return the findings of all ranks, in the order of the ranks."""
    return [finding for findings in comm.allgather(agree(comm, check)) for finding in findings]


def _stray_files(directory: Path, index: dict[str, Any]) -> list[str]:
    listed = {shard["file"] for split in index["splits"].values() for shard in split["shards"]}
    listed |= {INDEX_NAME, *([index["test_ids"]["file"]] if index.get("test_ids") else [])}
    stray = [
        f"{directory / entry.name}: not in {INDEX_NAME}"
        for entry in sorted(directory.iterdir())
        if entry.name not in listed
    ]
    damaged = damaged_ids(directory, index)
    return [*stray, damaged] if damaged else stray


def _damaged_files(shards: ShardReader, split: str, comm: Communicator, advance: Callable[[int], None]) -> list[str]:
    """Open every `size`-th file of a split, beginning with file `rank`: this checks length, checksum and form."""
    findings, start = [], 0
    for number, shard in enumerate(shards.index["splits"][split]["shards"]):
        if number % comm.size == comm.rank:
            try:
                shards.columns(split, start, start + 1, ("y",))
            except DataDamagedError as error:
                findings.append(str(error))
            advance(1)
        start += shard["rows"]
    return findings


def _read_columns(shards: ShardReader, split: str) -> dict[str, NDArray[Any]]:
    return shards.columns(split, 0, shards.rows(split), tuple(shards.layout.columns))


def _count_findings(shards: ShardReader, split: str, columns: dict[str, NDArray[Any]]) -> list[str]:
    """Compare the rows of each class, in each shard and in all shards together, with the index."""
    entry, classes = shards.index["splits"][split], len(shards.classes)
    y, synthetic = columns["y"], columns["synthetic"]
    if y.min() < 0 or y.max() >= classes:
        return [f"{shards.directory}, {split}: labels {y.min()} to {y.max()}, expected 0 to {classes - 1}"]
    findings, start = [], 0
    shard_rows = []
    for shard in entry["shards"]:
        shard_rows.append((str(shards.directory / shard["file"]), shard, slice(start, start + shard["rows"])))
        start += shard["rows"]
    for name, recorded, rows in [*shard_rows, (f"{shards.directory / INDEX_NAME}, {split}", entry, slice(None))]:
        for key, labels in (("class_counts", y[rows]), ("synthetic_counts", y[rows][synthetic[rows]])):
            counts = np.bincount(labels, minlength=classes).tolist()
            if counts != recorded[key]:
                findings.append(f"{name}: {key} are {counts}, the index has {recorded[key]}")
    return findings


def _ordered_parts(index: dict[str, Any], split: str) -> list[slice]:
    """Return the rows that are in the order of `rcdp_hpc.data.split.interleave`: those of each unit, or all."""
    units = (index.get("units") or {}).get(split)
    if units is None:
        return [slice(None)]
    ends = list(accumulate((unit["rows"] for unit in units), initial=0))
    return [slice(start, stop) for start, stop in pairwise(ends)]


def _proportion_findings(split: Split, y: NDArray[np.int32]) -> list[str]:
    """Check Tijdeman's bound on every prefix of the rows (see `rcdp_hpc.data.split.interleave`), with integers."""
    labels, counts = np.unique(y, return_counts=True)
    if len(labels) < 2:
        return []
    m, total = 2 * len(labels) - 2, len(y)
    findings = []
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        # The count of a class exceeds its share most at a row of the class, and falls short most just before it.
        steps = np.flatnonzero(y == label) + 1
        nth = np.arange(1, count + 1)
        excess = nth * total - steps * count
        deficit = (steps - 1) * count - (nth - 1) * total
        worst = max(excess.max(), deficit.max())
        if worst * m > (m - 1) * total:
            findings.append(
                f"{FILE_PREFIX[split]}-*.h5: class {label} is {worst / total:.2f} rows away from its share, "
                f"at most {1 - 1 / m:.2f} allowed"
            )
    return findings


def _balance_findings(index: dict[str, Any]) -> list[str]:
    counts, data = index["splits"]["train"]["class_counts"], index["settings"]["data"]
    expected = [reserve_size(rows, data["reserve"]) for rows in counts]
    reserve = index["splits"][RESERVE]["class_counts"] if RESERVE in index["splits"] else [0] * len(counts)
    if reserve != expected:
        return [f"{INDEX_NAME}: the reserve has {reserve} rows of the classes, expected {expected}"]
    # Which numbers of rows a user's class aims at depends on its code, which verification does not import.
    if data["balance"] == "none" or data["balance"] not in BALANCING_METHODS:
        return []
    method = balancing_choice(data["balance"])
    wanted = class_targets(
        [entry["before"] for entry in index["class_table"]],
        index["classes"],
        method,
        data.get("balance_ratio", 1.0),
        data.get("balance_counts", ()),
    )
    recorded = [entry.get("wanted", rows) for entry, rows in zip(index["class_table"], wanted, strict=True)]
    if recorded != wanted:
        return [f"{INDEX_NAME}: by the class table, the classes should have {recorded} rows, by the settings {wanted}"]
    if method.exact and counts != wanted:
        return [f"{INDEX_NAME}: the training part is not balanced: {counts} rows of the classes, expected {wanted}"]
    return []
