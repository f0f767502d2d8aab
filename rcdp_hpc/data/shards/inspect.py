"""How even the classes are: before and after balancing, over the shards, and over the ranks that read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.class_table import table_lines
from rcdp_hpc.data.missing import described_in
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.split import SPLITS, slab_bounds
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.runtime.text import COLUMNS, display_width, join_lines, plain_name, shorten

MOST_CLASSES = 20
NAME_COLUMNS = 8


def counts_of_shards(index: dict[str, Any], split: str) -> NDArray[np.int64]:
    """Return the rows of each class in each shard of a split, shape (shards, classes)."""
    return np.array([shard["class_counts"] for shard in index["splits"][split]["shards"]], np.int64)


def counts_of_ranks(shards: ShardReader, split: str, ranks: int) -> NDArray[np.int64]:
    """Return the rows of each class that each rank reads, shape (ranks, classes)."""
    total, classes = shards.rows(split), len(shards.classes)
    y = shards.columns(split, 0, total, ("y",))["y"]
    slabs = [slab_bounds(total, rank, ranks) for rank in range(ranks)]
    return np.array([np.bincount(y[start:stop], minlength=classes) for start, stop in slabs], np.int64)


def spread(counts: NDArray[np.int64]) -> dict[str, float]:
    """Return how unequal counts are.

    Parameters
    ----------
    counts : ndarray, shape (n,)

    Returns
    -------
    dict
        ``mean``, ``variance``, ``deviation`` (standard deviation) and ``largest`` (largest over mean).

    Examples
    --------
    >>> spread(np.array([8, 12]))
    {'mean': 10.0, 'variance': 4.0, 'deviation': 2.0, 'largest': 1.2}
    """
    mean = float(counts.mean())
    return {
        "mean": mean,
        "variance": float(counts.var()),
        "deviation": float(counts.std()),
        "largest": float(counts.max() / mean) if mean else 0.0,
    }


def counts_of_training(path: Path) -> NDArray[np.int64] | None:
    """Return the rows of each class that each rank trained on in the last epoch, shape (ranks, classes).

    Parameters
    ----------
    path : Path
        ``RUN/train/class_counts.jsonl``.

    Returns
    -------
    ndarray of int64 or None
        None if the file is missing or has no epoch yet.

    Raises
    ------
    DataDamagedError
        If the file does not have the form that training writes.
    """
    if not path.exists():
        return None
    lines = read_sealed_lines(path)
    try:
        full = [line["counts"] for line in lines if "same_as" not in line]
        return np.array(full[-1], np.int64) if full else None
    except (ValueError, KeyError, TypeError) as error:
        raise DataDamagedError(
            f"{path}: does not have the form of class counts that training writes ({error})."
        ) from None


def _groups(shards: ShardReader) -> list[str]:
    """Return a line with the number of groups of each split; nothing without groups."""
    entry = shards.index.get("groups")
    if entry is None:
        return []
    parts = []
    for split in SPLITS:
        codes = shards.columns(split, 0, shards.rows(split), ("group",))["group"]
        parts.append(f"{split} {len(np.unique(codes[codes >= 0]))}")
    return [f"{len(entry['names'])} groups ({entry['origin']}): {', '.join(parts)}"]


def describe_shards(directory: Path, ranks: int = 0, class_counts: Path | None = None) -> str:
    """Return the class table, the rows of each class per shard and per rank, and their spread, as text.

    Parameters
    ----------
    directory : Path
        Folder of the shards (``RUN/shards``).
    ranks : int
        Number of ranks for the table of ranks; 0 for no such table.
    class_counts : Path, optional
        ``RUN/train/class_counts.jsonl``, for a table of the rows that each rank trained on in the last epoch.

    Raises
    ------
    InputError, DataDamagedError
        As `ShardReader`.
    """
    shards = ShardReader(directory, verify=False)
    index = shards.index
    storage = shards.layout.storage
    lines = [
        f"{index['source']['description']}",
        f"samples of shape {shards.sample_shape} as {storage.kind}"
        + ("" if storage.compression == "none" else f", {storage.compression}")
        + f"; balanced by {index['settings']['data']['balance']}, seed {index['seed']}",
        *described_in(index),
        *_groups(shards),
        "",
        *_class_table(index),
        "",
        *_count_table("shard", shards.classes, counts_of_shards(index, "train")),
    ]
    if ranks:
        lines += ["", *_count_table("rank", shards.classes, counts_of_ranks(shards, "train", ranks))]
    trained = None if class_counts is None else counts_of_training(class_counts)
    if trained is not None and len(trained) > 1:
        lines += [
            "",
            "rows of the ranks in the last epoch of training:",
            *_count_table("rank", shards.classes, trained),
        ]
    shards.close()
    return join_lines(lines)


def _class_table(index: dict[str, Any]) -> list[str]:
    table = index["class_table"]
    columns = {name: [entry[name] for entry in table] for name in ("source", "dropped", "before", "after")}
    # Shown only if balancing missed its targets. An index of an earlier version has no such entry.
    wanted = [entry.get("wanted", entry["after"]) for entry in table]
    if wanted != columns["after"]:
        columns["wanted"] = wanted
    columns["synthetic"] = index["splits"]["train"]["synthetic_counts"]
    columns |= {name: [entry[name] for entry in table] for name in ("validation", "test")}
    if "reserve" in table[0]:
        columns["reserve"] = [entry["reserve"] for entry in table]
    lines = table_lines([entry["class"] for entry in table], columns)
    for name in ("before", "after"):
        lines += [f"{name} balancing:", _spread_text(np.array([entry[name] for entry in table]))]
    return lines


def _line(first: str, values: Sequence[Any], widths: Sequence[int]) -> str:
    return first + "".join(f"  {value:>{width}}" for value, width in zip(values, widths, strict=True))


def _right(name: str, columns: int) -> str:
    """Right-align a name in a column; a wide character takes two places."""
    return " " * (columns - display_width(name)) + name


def _count_table(what: str, classes: list[str], counts: NDArray[np.int64]) -> list[str]:
    """Return a table with a line for each shard or rank, and the spread of all rows and of the most uneven class.

    Classes have columns as far as they fit in a line.
    """
    width, totals = max(len(what), 5), counts.sum(axis=1)
    names = [shorten(plain_name(name), NAME_COLUMNS) for name in classes]
    widths = [max(4, len(str(totals.max())))]
    for name, column in zip(names, counts.T, strict=True):
        widths.append(max(display_width(name), len(str(column.max()))))
        if width + sum(widths) + 2 * len(widths) > COLUMNS:
            widths.pop()
            break
    fit = len(widths) - 1
    lines = [
        _line(
            f"{what:<{width}}",
            ["rows", *(_right(name, columns) for name, columns in zip(names, widths[1:], strict=False))],
            widths,
        )
    ]
    for number, row in enumerate(counts[:MOST_CLASSES].tolist()):
        lines.append(_line(f"{number:<{width}}", [sum(row), *row[:fit]], widths))
    if len(counts) > MOST_CLASSES:
        lines.append(f"... and {len(counts) - MOST_CLASSES} more {what}s")
    if len(classes) > fit:
        lines.append(f"... and {len(classes) - fit} more classes without a column")
    lines += [f"rows over the {what}s:", _spread_text(totals)]
    worst = int(np.argmax([spread(column)["largest"] for column in counts.T]))
    return [*lines, f"most uneven class over the {what}s: {plain_name(classes[worst])}", _spread_text(counts[:, worst])]


def _spread_text(counts: NDArray[np.int64]) -> str:
    values = spread(counts)
    return (
        f"  mean {values['mean']:.6g}, variance {values['variance']:.3g}, standard deviation "
        f"{values['deviation']:.3g}, largest/mean {values['largest']:.3f}"
    )
