"""Groups of samples: the patients, subjects or sites that a split keeps on one side.

A reader finds them in a column (``data.group_column``) or an array (``data.group_name``, or ``groups`` of a Python
program); here they are found in the names of the samples (``data.group_pattern``), and joined over training and test.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.class_table import named
from rcdp_hpc.data.rows import RowTable
from rcdp_hpc.data.sources.base import Part, Source
from rcdp_hpc.data.sources.group_names import GroupNames
from rcdp_hpc.data.split import Split
from rcdp_hpc.data.units import matched_part
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.text import plain_name

log = logging.getLogger(__name__)

# A part is called uneven if its share of the samples differs by this fraction from the share wanted.
FAR_FROM_SHARE = 0.25


@dataclass(frozen=True)
class SharedGroups:
    """Groups of a separate test set that are in the training data, too.

    Attributes
    ----------
    groups, rows : int
        Number of the groups, and of their samples in the test set.
    """

    groups: int
    rows: int


def with_groups(source: Source, data: DataSection) -> Source:
    """Return a source whose parts have joined groups with sorted names; the same source if there are none.

    Raises
    ------
    InputError
        If ``data.group_pattern`` is set and samples have no names, a name does not match, or the samples have groups
        already; if the source does not read the key that names the groups; or if samples have groups and units.
    """
    if data.group_pattern and source.has_groups:
        raise InputError(f"data.group_pattern = {data.group_pattern!r}: the samples have groups already; set it to ''.")
    parts = [_with_pattern(source, part, data.group_pattern) for part in (source.train, source.test)]
    train, test = parts
    if train is None or train.groups is None:
        _refuse_unread(source, data)
        return source
    if data.unit_pattern:
        raise InputError(
            f"data.unit_pattern = {data.unit_pattern!r}: each unit is split by itself, and a group (patient, site) is "
            "on one side of the split: give units or groups, not both."
        )
    held = [part.groups for part in (train, test) if part is not None and part.groups is not None]
    names = sorted({group.names[code] for group in held for code in np.unique(group.codes).tolist()})
    return replace(source, train=_joined(train, names), test=None if test is None else _joined(test, names))


def _refuse_unread(source: Source, data: DataSection) -> None:
    """Raise an `InputError` if a setting names groups and the source has none: a warning could be overlooked."""
    if data.group_column or data.group_name:
        raise InputError(
            f"{origin_of(data)}: data.source = {source.name!r} does not read it. Tables have data.group_column, array "
            "files data.group_name, Python programs groups in data, and any source with names of samples "
            "data.group_pattern."
        )


def origin_of(data: DataSection) -> str:
    """Return the setting that names the groups, as the user writes it."""
    for key in ("group_column", "group_name", "group_pattern"):
        if value := getattr(data, key):
            return f"data.{key} = {value!r}"
    return "groups"


def refuse_one_group(source: Source, data: DataSection) -> None:
    """Raise an `InputError` if all samples of training are in one group."""
    groups = source.train.groups
    if groups is not None and len(np.unique(groups.codes)) == 1:
        raise InputError(
            f"{source.description}: all samples are in one group, {groups.names[groups.codes[0]]!r} "
            f"({origin_of(data)}), which cannot be on both sides of a split. Name another column, or set it to ''."
        )


def report_split(source: Source, data: DataSection, indices: Mapping[Split, NDArray[np.int64]]) -> None:
    """Log the groups of each part, and a warning if groups are too large for the shares that the settings ask for.

    Parameters
    ----------
    source : Source
    data : DataSection
    indices : dict
        Indices of the samples of each part that is split from the training samples of the source.
    """
    groups = source.train.groups
    if groups is None:
        return
    codes = {split: groups.codes[rows] for split, rows in indices.items()}
    total = sum(map(len, codes.values()))
    parts = [
        f"{split} {len(np.unique(held))} ({100 * len(held) / total:.1f} % of the samples)"
        for split, held in codes.items()
    ]
    log.info("groups (%s) stay on one side: %s", origin_of(data), ", ".join(parts))
    wanted = _wanted_shares(data, "test" in indices)
    far = [
        f"{split} has {100 * len(codes[split]) / total:.1f} % ({100 * share:.1f} % wanted)"
        for split, share in wanted.items()
        if abs(len(codes[split]) / total - share) > FAR_FROM_SHARE * share
    ]
    if far:
        sizes = np.bincount(np.concatenate(list(codes.values())))
        log.warning(
            "groups do not divide into the shares of samples that the settings ask for: %s. The largest group, %s, has "
            "%.1f %% of the samples",
            *(", ".join(far), plain_name(groups.names[int(sizes.argmax())]), 100 * sizes.max() / total),
        )


def report_absent(source: Source, others: Mapping[Split, RowTable]) -> bool:
    """Log the classes that validation or test lack because their groups are on another side.

    Returns
    -------
    bool
        False if the samples have no groups: nothing is logged then.
    """
    groups = source.train.groups
    if groups is None:
        return False
    pairs = np.unique(groups.codes * len(source.classes) + source.train.y)
    number = np.bincount(pairs % len(source.classes), minlength=len(source.classes))
    for split, table in others.items():
        counts = table.counts(len(source.classes))
        absent = [
            f"{name} (in {of} {'group' if of == 1 else 'groups'})"
            for name, of, count in zip(source.classes, number, counts, strict=True)
            if not count
        ]
        if absent:
            log.warning("no samples in %s, because groups stay on one side: class %s", split, named(absent))
    return True


def shared_with_test(source: Source, train: NDArray[np.int64], test: RowTable) -> SharedGroups:
    """Return how many groups of a separate test set are in the other parts, too, and how many samples they have.

    Parameters
    ----------
    source : Source
    train : ndarray of int64
        Indices of the samples of training and validation.
    test : RowTable
        Rows of the test part, those of the separate test set.
    """
    shared, codes = _shared_codes(source, train, test)
    return SharedGroups(len(shared), int(np.isin(codes, shared).sum()))


def report_shared(source: Source, data: DataSection, train: NDArray[np.int64], test: RowTable) -> None:
    """Log a warning if a separate test set has groups of the other parts; parameters as in `shared_with_test`."""
    groups = source.train.groups
    if groups is None:
        return
    shared, codes = _shared_codes(source, train, test)
    if (codes < 0).any():
        log.warning(
            "the separate test set has no groups (%s): whether its samples are of groups in the training data is "
            "unknown",
            origin_of(data),
        )
    elif len(shared):
        log.warning(
            "%d of %d groups of the separate test set (%s) are in the training data, too: %d of %d test samples are "
            "not of new groups, and their scores are likely too good: %s. Leave out the separate test set to split by "
            "groups, or remove these samples",
            *(len(shared), len(np.unique(codes)), origin_of(data), np.isin(codes, shared).sum(), len(codes)),
            named([plain_name(groups.names[code]) for code in shared.tolist()]),
        )


def _shared_codes(
    source: Source, train: NDArray[np.int64], test: RowTable
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the groups of the test rows that are in training, too, and the group of each test row."""
    held, codes = source.groups(train), source.groups(test.source)
    assert held is not None
    assert codes is not None
    return np.intersect1d(held, codes[codes >= 0]), codes


def _wanted_shares(data: DataSection, has_test: bool) -> dict[Split, float]:
    test = (1 / data.folds if data.folds else data.test_fraction) if has_test else 0.0
    shares: dict[Split, float] = {"validation": data.validation_fraction * (1 - test)}
    return {**shares, "test": test} if has_test else shares


def _with_pattern(source: Source, part: Part | None, pattern: str) -> Part | None:
    """Return a part with the groups that the pattern finds in the names of its samples."""
    if part is None or not pattern or (part.ids is None and part is source.test):
        return part
    if part.ids is None:
        raise InputError(
            f"{source.description}: data.group_pattern needs names of the samples, and they have only numbers: set "
            "data.group_column for a table, data.group_name for an array file, or add an array ids."
        )
    expression = re.compile(pattern)
    texts = [matched_part(name, expression, "data.group_pattern", "group") for name in part.ids]
    return replace(part, groups=GroupNames.of(texts))


def _joined(part: Part, names: list[str]) -> Part:
    """Return a part whose groups are numbered by `names`, which are sorted."""
    if part.groups is None:
        return part
    places = {name: number for number, name in enumerate(names)}
    numbers = np.array([places.get(name, -1) for name in part.groups.names], np.int64)
    return replace(part, groups=GroupNames(names, numbers[part.groups.codes]))
