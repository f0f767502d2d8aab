"""The group of each sample, as a reader finds it: the patient, subject or site that the sample comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.labels import MISSING, MISSING_TEXTS
from rcdp_hpc.errors import InputError


@dataclass(frozen=True, eq=False)
class GroupNames:
    """The groups of samples.

    Attributes
    ----------
    names : list of str
        The different groups.
    codes : ndarray of int64, shape (N,)
        Index in `names` of each sample's group.
    """

    names: list[str]
    codes: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> GroupNames:
        """Return the groups of samples by their names, in order."""
        names, codes = np.unique(np.asarray(texts, object).astype(str), return_inverse=True)
        return cls(names.tolist(), codes.reshape(-1).astype(np.int64))

    def select(self, rows: NDArray[np.int64]) -> GroupNames:
        """Return the groups of some of the samples."""
        return GroupNames(self.names, self.codes[rows])


def groups_of_array(where: str, values: Any, samples: int) -> GroupNames:
    """Return the groups in an array of texts or whole numbers.

    Parameters
    ----------
    where : str
        File and key, for messages.
    values : array_like, shape (N,) or (N, 1)
    samples : int
        N.

    Raises
    ------
    InputError
        If the array has another form, or the group of a sample is missing.
    """
    array = np.asarray(values)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1 or array.dtype.kind not in "biufUSO" or len(array) != samples:
        raise InputError(
            f"{where} has shape {array.shape} and type {array.dtype}, expected one text or whole number for each of "
            f"the {samples} samples: the group that the sample belongs to."
        )
    return checked_groups(where, [_text(value) for value in array.tolist()])


def checked_groups(where: str, texts: Sequence[str]) -> GroupNames:
    """Return the groups of samples; raise an `InputError` that names the first sample without one."""
    groups = GroupNames.of(texts)
    missing = [number for number, name in enumerate(groups.names) if name.strip() in MISSING_TEXTS]
    rows = np.flatnonzero(np.isin(groups.codes, missing))
    if len(rows):
        raise missing_group(f"{where}, sample {rows[0]}", len(rows))
    return groups


def missing_group(place: str, rows: int) -> InputError:
    """Return the error for samples without a group."""
    more = f" ({rows} in all)" if rows > 1 else ""
    return InputError(
        f"{place}: the group is missing{more}. A sample without one could be of any group: complete the groups, or "
        "leave these samples out."
    )


def refuse_missing_groups(names: Sequence[str], codes: NDArray[np.int64], where: Any) -> None:
    """Raise an `InputError` if a code is missing, or that of a text for a missing value.

    Parameters
    ----------
    names : sequence of str
    codes : ndarray of int64, shape (N,)
        -1 is missing.
    where : callable
        Returns file, row and column of an index, for the message.
    """
    texts = [number for number, name in enumerate(names) if name.strip() in MISSING_TEXTS]
    rows = np.flatnonzero(np.isin(codes, [MISSING, *texts]))
    if len(rows):
        raise missing_group(where(int(rows[0])), len(rows))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    # Numbers are read as floats if one is missing.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
