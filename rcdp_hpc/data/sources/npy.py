"""Arrays as NumPy .npy files, mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.data.memory import Budget
from rcdp_hpc.data.sources.base import NewSamples, Source
from rcdp_hpc.data.sources.npz import checked_samples, source_of
from rcdp_hpc.data.sources.rows import MappedRows, fits
from rcdp_hpc.errors import InputError

KEYS = ("x", "y", "x_test", "y_test")


def read_source(folder: Path, budget: Budget) -> Source:
    """Read a folder of ``x.npy`` and ``y.npy`` and, for a test set of its own, ``x_test.npy`` and ``y_test.npy``.

    Parameters
    ----------
    folder : Path
        The folder; the arrays are as in an npz file.
    budget : Budget
        Samples beyond its share are mapped, not held.

    Raises
    ------
    InputError
        If a file is missing or damaged, lengths differ, or a value is not finite.
    """
    if not folder.is_dir():
        raise InputError(f"data.path = {folder}: not a folder; data.source = 'npy' needs that of x.npy and y.npy.")
    arrays = {key: _load(folder / f"{key}.npy", budget) for key in KEYS if (folder / f"{key}.npy").exists()}
    for key in ("x", "y"):
        if key not in arrays:
            raise InputError(f"{folder}: no {key}.npy there.")
    return source_of("npy", folder, arrays)


def read_samples(path: Path, budget: Budget) -> NewSamples:
    """Return the samples of one .npy file; errors as in `read_source`."""
    return NewSamples(checked_samples(path, _load(path, budget), path.name))


def _load(path: Path, budget: Budget) -> Any:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except ValueError as error:
        what = "holds Python objects, which are not read for safety" if "allow_pickle" in str(error) else f"{error}"
        raise InputError(f"{path}: not a readable npy file: {what}.") from None
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}.") from None
    if not isinstance(array, np.memmap):
        raise InputError(f"{path}: not an npy file with one array.")
    return np.array(array) if fits(array.shape, array.dtype, budget.source) else MappedRows(array)
