"""Checking shards from end to end: bytes, counts, proportions, and where every row came from."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config.choices import BALANCING_METHODS, balancing_choice
from rcdp_hpc.data.balancing.reserve import reserve_size
from rcdp_hpc.data.balancing.targets import class_targets
from rcdp_hpc.data.shards.index import FILE_PREFIX, INDEX_NAME, load_index
from rcdp_hpc.data.shards.provenance import provenance_findings
from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.data.shards.sample_ids import damaged_ids
from rcdp_hpc.data.split import RESERVE, Split
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.progress import Progress


def verify_shards(
    directory: Path,
    check_stop: Callable[[], None] = lambda: None,
    progress: bool = False,
    comm: Communicator | None = None,
) -> list[str]:
    """Check every checksum, count, proportion and origin of the shards in a folder. Collective.

    Ranks share the files, and then the classes, between them.

    Parameters
    ----------
    directory : Path
        Folder of the shards (``RUN/shards``).
    check_stop : callable
        Called between blocks of work; what it raises ends the check.
    progress : bool
        Show progress on rank 0.
    comm : Communicator, optional
        All ranks; default: this process alone.

    Returns
    -------
    list of str
        What is wrong, one line each, naming the file; empty if all is well. The same on every rank.

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
        return [index]
    steps = sum(len(split["shards"]) for split in index["splits"].values()) + len(index["classes"])
    with Progress(
        "verify", math.ceil(steps / comm.size), "files and classes", enabled=progress and comm.is_root
    ) as bar:

        def advance(done: int) -> None:
            bar.advance(done)
            check_stop()

        stray = agree(comm, lambda: _stray_files(directory, index) if comm.is_root else [])
        return list(dict.fromkeys([*comm.broadcast(stray), *_content_findings(directory, comm, advance)]))


def _content_findings(directory: Path, comm: Communicator, advance: Callable[[int], None]) -> list[str]:
    shards = ShardSet(directory, verify=True)
    damaged = _gathered(
        comm, lambda: [found for split in shards.splits for found in _damaged_files(shards, split, comm, advance)]
    )
    # Every rank reads the columns of all rows, which are small, and the samples of its own classes alone.
    shards = ShardSet(directory, verify=False)
    whole = [
        split
        for split in shards.splits
        if not any(f"{FILE_PREFIX[split]}-" in Path(f.split(":")[0]).name for f in damaged)
    ]

    def look() -> list[str]:
        columns = {split: _read_columns(shards, split) for split in whole}
        findings: list[str] = []
        if comm.is_root:
            for split, content in columns.items():
                findings += _count_findings(shards, split, content)
                findings += _proportion_findings(split, content["y"])
        # Where rows come from is told by all splits together.
        if len(columns) == len(shards.splits):
            if comm.is_root:
                findings += _balance_findings(shards.index)
            findings += provenance_findings(shards, dict(columns.items()), advance, (comm.rank, comm.size))
        shards.close()
        return findings

    return damaged + _gathered(comm, look)


def _gathered(comm: Communicator, look: Callable[[], list[str]]) -> list[str]:
    """Return what all ranks found, in the order of the ranks."""
    return [finding for found in comm.allgather(agree(comm, look)) for finding in found]


def _stray_files(directory: Path, index: dict[str, Any]) -> list[str]:
    known = {shard["file"] for split in index["splits"].values() for shard in split["shards"]}
    known |= {INDEX_NAME, *([index["test_ids"]["file"]] if index.get("test_ids") else [])}
    stray = [
        f"{directory / entry.name}: not in {INDEX_NAME}"
        for entry in sorted(directory.iterdir())
        if entry.name not in known
    ]
    damaged = damaged_ids(directory, index)
    return [*stray, damaged] if damaged else stray


def _damaged_files(shards: ShardSet, split: str, comm: Communicator, advance: Callable[[int], None]) -> list[str]:
    """Open this rank's share of the files of a split, which checks length, checksum and form."""
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


def _read_columns(shards: ShardSet, split: str) -> dict[str, NDArray[Any]]:
    return shards.columns(split, 0, shards.rows(split), tuple(shards.layout.columns))


def _count_findings(shards: ShardSet, split: str, columns: dict[str, NDArray[Any]]) -> list[str]:
    """Compare the rows of each class, in each shard and in all, with the index."""
    entry, classes = shards.index["splits"][split], len(shards.classes)
    y, synthetic = columns["y"], columns["synthetic"]
    if y.min() < 0 or y.max() >= classes:
        return [f"{shards.directory}, {split}: labels {y.min()} to {y.max()}, expected 0 to {classes - 1}"]
    findings, start = [], 0
    pieces = []
    for shard in entry["shards"]:
        pieces.append((str(shards.directory / shard["file"]), shard, slice(start, start + shard["rows"])))
        start += shard["rows"]
    for name, recorded, rows in [*pieces, (f"{shards.directory / INDEX_NAME}, {split}", entry, slice(None))]:
        for key, labels in (("class_counts", y[rows]), ("synthetic_counts", y[rows][synthetic[rows]])):
            found = np.bincount(labels, minlength=classes).tolist()
            if found != recorded[key]:
                findings.append(f"{name}: {key} are {found}, the index says {recorded[key]}")
    return findings


def _proportion_findings(split: Split, y: NDArray[np.int32]) -> list[str]:
    """Check Tijdeman's bound on every prefix (see `rcdp_hpc.data.split.interleave`), in whole numbers."""
    labels, counts = np.unique(y, return_counts=True)
    if len(labels) < 2:
        return []
    m, total = 2 * len(labels) - 2, len(y)
    findings = []
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        # The count is furthest ahead at each of its rows, and furthest behind just before it.
        steps = np.flatnonzero(y == label) + 1
        nth = np.arange(1, count + 1)
        ahead = nth * total - steps * count
        behind = (steps - 1) * count - (nth - 1) * total
        worst = max(ahead.max(), behind.max())
        if worst * m > (m - 1) * total:
            findings.append(
                f"{FILE_PREFIX[split]}-*.h5: class {label} is {worst / total:.2f} rows away from its share, "
                f"at most {1 - 1 / m:.2f} allowed"
            )
    return findings


def _balance_findings(index: dict[str, Any]) -> list[str]:
    counts, data = index["splits"]["train"]["class_counts"], index["settings"]["data"]
    kept = [reserve_size(rows, data["reserve"]) for rows in counts]
    found = index["splits"][RESERVE]["class_counts"] if RESERVE in index["splits"] else [0] * len(counts)
    if found != kept:
        return [f"{INDEX_NAME}: the reserve has {found} rows of the classes, {kept} wanted"]
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
        return [f"{INDEX_NAME}: the class table wants {recorded} rows of the classes, the settings {wanted}"]
    if method.exact and counts != wanted:
        return [f"{INDEX_NAME}: the training part is not balanced: {counts} rows of the classes, {wanted} wanted"]
    return []
