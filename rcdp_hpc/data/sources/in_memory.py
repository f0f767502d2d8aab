"""The source ``arrays``: samples and labels in the memory of a Python program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.config.choices import ARRAYS
from rcdp_hpc.data.sources.arrays import source_of
from rcdp_hpc.data.sources.base import Columns, Source
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.frame_table import FrameTable, unused_name
from rcdp_hpc.data.sources.python_values import is_frame, label_array, sample_arrays
from rcdp_hpc.data.sources.reader import SourceReader
from rcdp_hpc.data.sources.request import SourceRequest, as_arrays
from rcdp_hpc.data.sources.table_reading import Table
from rcdp_hpc.data.sources.tables import source_of_table
from rcdp_hpc.errors import InputError

# Names the arrays in messages.
WHERE = Path("arrays")
TEST = Path("arrays of the test")


@dataclass(frozen=True, eq=False)
class LabelledArrays:
    """Samples and labels in memory.

    Attributes
    ----------
    train : mapping
        ``x`` and ``y``, and any of ``lengths``, ``ids`` and ``groups``.
    test : mapping or None
        The same, of a separate test set.
    """

    train: Mapping[str, Any]
    test: Mapping[str, Any] | None = None

    @property
    def has_groups(self) -> bool:
        """Whether the samples have groups."""
        return self.train.get("groups") is not None


class ArraysReader(SourceReader):
    """Arrays, data frames and lists of series that a Python program passes to a stage."""

    needs_path = False

    def read(self, request: SourceRequest) -> Source:
        """Return the samples of ``request.arrays``, with the checks that array files get.

        Raises
        ------
        InputError
            If there are no arrays, or they hold invalid values or do not match.
        """
        if request.arrays is None:
            raise InputError(
                f"data.source = '{ARRAYS}': the samples were in the memory of a Python program, and are not given now. "
                "Call rcdp_hpc.run(config, out, data=(x, y))."
            )
        train, test = request.arrays.train, request.arrays.test
        if request.data.group_name and not request.arrays.has_groups:
            raise InputError(f"{WHERE}: data.group_name = {request.data.group_name!r}, and data has no groups.")
        if is_frame(train["x"]):
            return _source_of_frame(request, train, test)
        if test is not None and is_frame(test["x"]):
            raise InputError(f"{WHERE}: the test samples are a data frame, and those of data are not.")
        arrays = _converted("x", train)
        if test is not None:
            arrays |= {f"{name}_test": value for name, value in _converted("test x", test).items()}
            _unify_formats(arrays)
        return source_of(ARRAYS, WHERE, as_arrays(arrays), request.data, Findings())


def _converted(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of one part. NumPy arrays are not copied."""
    where = f"{WHERE}: {name}"
    labels = label_array(f"{WHERE}: {name[:-1]}y", part["y"])
    arrays = sample_arrays(where, part["x"])
    others = {key: part[key] for key in ("lengths", "ids", "groups") if part.get(key) is not None}
    if "lengths" in arrays and "lengths" in others:
        raise InputError(f"{where}: series of unequal length have their own lengths; leave out the lengths given.")
    return {**arrays, **others, "y": labels}


def _source_of_frame(request: SourceRequest, train: Mapping[str, Any], test: Mapping[str, Any] | None) -> Source:
    """Return the rows of a data frame as those of a table file; columns of a categorical type hold categories."""
    for part in (train, test or {}):
        for key in ("lengths", "ids", "groups"):
            if part.get(key) is not None:
                raise InputError(
                    f"{WHERE}: {key} with a data frame: name the column instead (data.id_column, data.group_column, "
                    "data.sequence_column)."
                )
    data, findings = request.data, Findings()
    label = unused_name(train["x"], "y")
    table = FrameTable(WHERE, train["x"], train["y"], label)
    categories = [name for name in table.categorical if name not in {*data.category_columns, *data.drop_columns}]
    if categories:
        findings.assumed.append(f"{WHERE}: columns of categories, by their type: {', '.join(categories)}")
    names = [*data.category_columns, *categories]
    data = data.model_copy(update={"label_column": label, "category_columns": names})

    def open_test(columns: Columns) -> Table:
        assert test is not None
        if not is_frame(test["x"]):
            raise InputError(f"{TEST}: the samples are a {type(test['x']).__name__}, and those of data a data frame.")
        return Table(
            TEST, data, request.budget, findings, columns, files=[FrameTable(TEST, test["x"], test["y"], label)]
        )

    return source_of_table(
        Table(WHERE, data, request.budget, findings, files=[table]), None if test is None else open_test
    )


def _unify_formats(arrays: dict[str, Any]) -> None:
    """Give samples of training and test one number format, unless one of them is of bytes, which have a scale."""
    x, test_x = arrays["x"], arrays["x_test"]
    kinds = {x.dtype, test_x.dtype}
    if len(kinds) > 1 and np.dtype(np.uint8) not in kinds and all(kind.kind in "buif" for kind in kinds):
        common = np.result_type(x, test_x)
        arrays["x"] = x.astype(common, copy=False)
        arrays["x_test"] = test_x.astype(common, copy=False)
