"""Named datasets of an HDF5 file, read in slabs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.memory import Budget
from rcdp_hpc.data.sources.base import NewSamples, Source, row_bytes
from rcdp_hpc.data.sources.npz import source_of
from rcdp_hpc.data.sources.rows import fits
from rcdp_hpc.errors import InputError

GAP_BYTES = 2**16
SLAB_BYTES = 2**24


def read_source(path: Path, data: DataSection, budget: Budget) -> Source:
    """Read the datasets that ``data.x_name``, ``data.y_name``, ``data.x_test_name`` and ``data.y_test_name`` name.

    Parameters
    ----------
    path : Path
        The file.
    data : DataSection
        Names of the datasets, as in ``group/images``.
    budget : Budget
        Samples beyond its share are read from the file when they are needed.

    Raises
    ------
    InputError
        If the file is missing, damaged or open for writing elsewhere, a dataset is missing, leads out of the file,
        or is not of numbers.
    """
    file = _open(path)
    names = {"x": data.x_name, "y": data.y_name, "x_test": data.x_test_name, "y_test": data.y_test_name}
    arrays: dict[str, Any] = {}
    for key, name in names.items():
        if name:
            dataset = _dataset(path, file, name)
            arrays[key] = _array(dataset, budget) if key.startswith("x") else _label_array(path, dataset)
    return source_of("hdf5", path, arrays)


def read_samples(path: Path, name: str, budget: Budget) -> NewSamples:
    """Return the samples of one dataset; errors as in `read_source`."""
    return NewSamples(_array(_dataset(path, _open(path), name), budget))


class _StoredRows:
    """Rows of a dataset, read in slabs of rows that lie close together."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        chunk = dataset.chunks[0] if dataset.chunks else 1
        self._gap = max(1, chunk, GAP_BYTES // row_bytes(self))
        self._most = max(chunk, SLAB_BYTES // row_bytes(self), 1)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if isinstance(rows, slice):
            return np.asarray(self._dataset[rows])
        wanted, place = np.unique(rows, return_inverse=True)
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        for start, stop in self._runs(wanted):
            slab = self._dataset[wanted[start] : wanted[stop - 1] + 1]
            found[start:stop] = slab[wanted[start:stop] - wanted[start]]
        return found[place]

    def _runs(self, wanted: NDArray[np.int64]) -> list[tuple[int, int]]:
        runs, start = [], 0
        for stop in range(1, len(wanted) + 1):
            if (
                stop == len(wanted)
                or wanted[stop] - wanted[stop - 1] > self._gap
                or wanted[stop] - wanted[start] >= self._most
            ):
                runs.append((start, stop))
                start = stop
        return runs


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    try:
        return h5py.File(path, "r")
    except BlockingIOError:
        raise InputError(f"{path}: open for writing in another process; wait until it is closed.") from None
    except OSError as error:
        if "lock" in str(error):
            raise InputError(f"{path}: open for writing in another process; wait until it is closed.") from None
        raise InputError(f"{path}: cannot be opened as HDF5 ({error}).") from None


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset whose content lies in this very file: no link on the way leads out of it."""
    node: Any = file
    for part in [part for part in name.split("/") if part]:
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            known = ", ".join(sorted(file)) or "nothing"
            raise InputError(f"{path}: no dataset {name!r}; the file holds {known}. Set data.x_name and data.y_name.")
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{path}: {name} is a link that may lead out of the file, which is not followed.")
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.shape is None or not node.shape:
        raise InputError(f"{path}: {name} is no dataset with rows.")
    if node.is_virtual or node.external:
        raise InputError(f"{path}: {name} has its content in other files, which are not followed.")
    return node


def _array(dataset: h5py.Dataset, budget: Budget) -> Any:
    return np.asarray(dataset[()]) if fits(dataset.shape, dataset.dtype, budget.source) else _StoredRows(dataset)


def _label_array(path: Path, dataset: h5py.Dataset) -> NDArray[Any]:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        try:
            return np.array(dataset.asstr()[()], str)
        except UnicodeDecodeError:
            raise InputError(f"{path}: {dataset.name} holds texts that are not UTF-8.") from None
    return np.asarray(dataset[()])
