"""The source ``arrays``: samples and labels in the memory of a Python program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.config.choices import ARRAYS
from rcdp_hpc.data.sources.arrays import source_of
from rcdp_hpc.data.sources.base import Source
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.python_values import is_frame, label_array, sample_arrays
from rcdp_hpc.data.sources.reader import SourceReader
from rcdp_hpc.data.sources.request import SourceRequest, as_arrays
from rcdp_hpc.errors import InputError

# Names the arrays in messages.
WHERE = Path("arrays")


@dataclass(frozen=True, eq=False)
class LabelledArrays:
    """Samples and labels in memory.

    Attributes
    ----------
    train : mapping
        ``x`` and ``y``, and any of ``lengths`` and ``ids``.
    test : mapping or None
        The same of a separate test set.
    """

    train: Mapping[str, Any]
    test: Mapping[str, Any] | None = None


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
        arrays = _converted("x", train)
        if test is not None:
            arrays |= {f"{name}_test": value for name, value in _converted("test x", test).items()}
            _unify_formats(arrays)
        return source_of(ARRAYS, WHERE, as_arrays(arrays), request.data, Findings())


def _converted(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of one part. NumPy arrays are not copied."""
    where, x = f"{WHERE}: {name}", part["x"]
    labels = label_array(f"{WHERE}: {name[:-1]}y", part["y"])
    arrays = sample_arrays(where, np.asarray(x) if is_frame(x) else x)
    others = {key: part[key] for key in ("lengths", "ids") if part.get(key) is not None}
    if "lengths" in arrays and "lengths" in others:
        raise InputError(f"{where}: series of unequal length have their own lengths; leave out the lengths given.")
    return {**arrays, **others, "y": labels}


def _unify_formats(arrays: dict[str, Any]) -> None:
    """Give samples of training and test one number format, unless one of them is of bytes, which have a scale."""
    x, test_x = arrays["x"], arrays["x_test"]
    kinds = {x.dtype, test_x.dtype}
    if len(kinds) > 1 and np.dtype(np.uint8) not in kinds and all(kind.kind in "buif" for kind in kinds):
        common = np.result_type(x, test_x)
        arrays["x"] = x.astype(common, copy=False)
        arrays["x_test"] = test_x.astype(common, copy=False)
