"""Labels as a source writes them, turned into class indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError


def encode_labels(
    train: NDArray[Any], test: NDArray[Any] | None, test_name: str
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64] | None]:
    """Give numbers to the classes in sorted order.

    Parameters
    ----------
    train : ndarray of integers or strings, shape (N,)
        Training labels; they define the classes.
    test : ndarray of integers or strings, shape (M,), or None
        Test labels.
    test_name : str
        Where the test labels come from, for messages.

    Returns
    -------
    classes : list of str
    train_indices : ndarray of int64, shape (N,)
    test_indices : ndarray of int64, shape (M,), or None

    Raises
    ------
    InputError
        If a test label does not occur in the training labels.
    """
    names, train_indices = np.unique(train, return_inverse=True)
    classes = [str(name) for name in names]
    if test is None:
        return classes, train_indices.astype(np.int64), None
    places = np.searchsorted(names, test).clip(max=len(names) - 1)
    unknown = np.flatnonzero(names[places] != test)
    if len(unknown):
        row = int(unknown[0])
        raise InputError(
            f"{test_name}: label {str(test[row])!r} of row {row} does not occur in the training labels "
            f"({some_names(classes)})."
        )
    return classes, train_indices.astype(np.int64), places.astype(np.int64)


def some_names(names: list[str]) -> str:
    """Return the first of some names, for messages."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
