"""Units of samples: the site, patient or device that a sample comes from, read from its name (``data.unit_pattern``).

Most sources have names of their samples: the paths of files, the column ``data.id_column`` of a table, the array
``ids`` of an npz or HDF5 file. The unit is what the pattern matches in the name. Each unit is split and put in order by
itself, so that its rows are the same whatever other units the source has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.rows import RowTable
from rcdp_hpc.data.sources import Source
from rcdp_hpc.data.split import Split, interleave, split_indices
from rcdp_hpc.errors import InputError


@dataclass(frozen=True, eq=False)
class Units:
    """The units of the training samples of a source.

    Attributes
    ----------
    names : list of str
        The units, sorted.
    codes : ndarray of int64, shape (N,)
        Index in `names` of each training sample's unit.
    """

    names: list[str]
    codes: NDArray[np.int64]

    @staticmethod
    def of(source: Source, data: DataSection) -> Units | None:
        """Return the units of a source; None without ``data.unit_pattern``.

        Raises
        ------
        InputError
            If samples have no names, or a name does not match the pattern.
        """
        if not data.unit_pattern:
            return None
        ids = source.train.ids
        if ids is None:
            raise InputError(
                f"{source.description}: data.unit_pattern needs names of the samples, and they have only numbers: set "
                "data.id_column for a table, or add an array ids."
            )
        pattern = re.compile(data.unit_pattern)
        texts = [matched_part(name, pattern, "data.unit_pattern", "unit") for name in ids]
        names, codes = np.unique(np.array(texts), return_inverse=True)
        return Units(names.tolist(), codes.astype(np.int64))

    def select(self, rows: NDArray[np.int64]) -> Units:
        """Return the units of some of the samples."""
        return Units(self.names, self.codes[rows])

    def split(
        self, y: NDArray[np.int64], validation_fraction: float, test_fraction: float | None, seed: int
    ) -> dict[Split, NDArray[np.int64]]:
        """Split each unit by `split_indices`; parameters and result as there. A part may have no row."""
        parts: dict[Split, list[NDArray[np.int64]]] = {}
        for members in _members(self.codes):
            found = split_indices(y[members], validation_fraction, test_fraction, seed, may_be_empty=True)
            for name, rows in found.items():
                parts.setdefault(name, []).append(members[rows])
        return {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}

    def order(self, table: RowTable, seed: int) -> NDArray[np.int64]:
        """Return the order of the rows of a split: unit by unit, each with the class proportions of its own rows."""
        # The rows of a split are in the order of the source, so the order in a unit does not depend on other units.
        units = _members(self.codes[table.source])
        return np.concatenate([rows[interleave(table.y[rows].astype(np.int64), seed)] for rows in units])

    def entries(self, table: RowTable) -> list[dict[str, str | int]]:
        """Return name and rows of each unit of a split for index.json, in the order of the shards."""
        counts = np.bincount(self.codes[table.source], minlength=len(self.names)).tolist()
        return [{"name": name, "rows": rows} for name, rows in zip(self.names, counts, strict=True) if rows]


def _members(codes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the ascending rows of each unit that has rows."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def matched_part(name: str, pattern: re.Pattern[str], key: str, what: str) -> str:
    """Return the first group of the pattern's match in the name of a sample, or the whole match.

    Parameters
    ----------
    name : str
    pattern : re.Pattern
    key : str
        The key of the pattern, for messages.
    what : str
        What it finds, for messages.

    Raises
    ------
    InputError
        If the name does not match.
    """
    match = pattern.search(name)
    part = None if match is None else match.group(1 if pattern.groups else 0)
    if not part:
        raise InputError(f"{key} = {pattern.pattern!r} finds no {what} in the sample name {name!r}.")
    return part
