"""Check the declared shapes and types of arrays (npz, npy, hdf5) before the arrays are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.data.budget import SAMPLE_BYTES, SHARD_ROW_BYTES, TEXT_BYTES, Budget
from rcdp_hpc.errors import InputError

# Bytes per value of a sample while its numbers are checked: raw, as float64, and a mask.
SAMPLE_COPIES_BYTES = 12


@dataclass(frozen=True)
class Form:
    """Shape and number format declared by a header.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def rows(self) -> int:
        """Length of the first axis."""
        return self.shape[0] if self.shape else 0


def check_declared(path: Path, forms: Mapping[str, Form], budget: Budget) -> None:
    """Refuse arrays that do not match or that need too much memory, by their headers.

    Parameters
    ----------
    path : Path
        For messages.
    forms : dict of str to Form
        Declared forms by the role of the array: x, y, lengths, ids, groups, and the same with ``_test``.
    budget : Budget

    Raises
    ------
    InputError
        If the numbers of labels and samples differ, or labels, names and indices need more than their share.
    """
    rows = extra = 0
    for suffix in ("", "_test"):
        x = forms.get(f"x{suffix}")
        if x is None:
            continue
        y, lengths = forms.get(f"y{suffix}"), forms.get(f"lengths{suffix}")
        if y is not None and (len(y.shape) == 1 or y.shape[1:] == (1,)) and y.rows != x.rows and x.rows:
            raise InputError(f"{path}: x{suffix} has {x.rows} samples, y{suffix} has {y.rows} labels.")
        if math.prod(x.shape[1:]):
            needed = SAMPLE_COPIES_BYTES * math.prod(x.shape[1:])
            budget.refuse_work(f"{path}: a sample of x{suffix} has shape {x.shape[1:]}", needed, "make samples smaller")
        rows += x.rows
        names = sum(_name_bytes(forms.get(f"{role}{suffix}")) for role in ("ids", "groups"))
        extra += _label_bytes(y) + names + (0 if lengths is None else lengths.bytes + 8 * lengths.rows)
    # Samples with labels become rows of the shards.
    budget.refuse_rows(path, rows, SAMPLE_BYTES + (SHARD_ROW_BYTES if "y" in forms else 0), extra)


def rooms(forms: Mapping[str, Form], budget: Budget) -> dict[str, int]:
    """Return how many bytes of each array of samples may be held; training and test samples use one share."""
    samples = [role for role in forms if role.startswith("x")]
    together = sum(forms[role].bytes for role in samples) <= budget.source
    return dict.fromkeys(samples, budget.source if together else budget.source // 2)


def _label_bytes(y: Form | None) -> int:
    if y is None:
        return 0
    one_hot = len(y.shape) == 2 and y.shape[1] > 1
    # Masks to check whether rows are one-hot.
    return y.bytes + (3 * math.prod(y.shape) if one_hot else 0)


def _name_bytes(ids: Form | None) -> int:
    if ids is None:
        return 0
    letters = ids.dtype.itemsize // 4 if ids.dtype.kind == "U" else ids.dtype.itemsize
    return ids.bytes + ids.rows * (TEXT_BYTES + letters)
