"""Named datasets of an HDF5 file, read in slabs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.memory import Budget
from rcdp_hpc.data.sources.array_numbers import UNEQUAL_HINT, checked_samples
from rcdp_hpc.data.sources.arrays import samples_of, source_of
from rcdp_hpc.data.sources.base import NewSamples, Source, row_bytes
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.hdf5_file import (
    damage_explained,
    dataset_names,
    described_datasets,
    open_hdf5,
    refuse_missing_filters,
)
from rcdp_hpc.data.sources.keys import NAMES, SAMPLES, assign, missing_key
from rcdp_hpc.data.sources.peek import Peek, peek_at
from rcdp_hpc.data.sources.rows import fits
from rcdp_hpc.errors import InputError

GAP_BYTES = 2**16
SLAB_BYTES = 2**24


def read_source(path: Path, data: DataSection, budget: Budget) -> Source:
    """Read the datasets that ``data.x_name``, ``data.y_name`` and the other keys name.

    Parameters
    ----------
    path : Path
        The file.
    data : DataSection
        Names of the datasets, as in ``group/images``. Those that are not named are recognised next to the samples, by
        the names that npz files use.
    budget : Budget
        Samples beyond its share are read from the file when they are needed.

    Raises
    ------
    InputError
        If the file is missing, damaged or open for writing elsewhere, a dataset is missing, leads out of the file,
        or is not of numbers.
    """
    file, findings = open_hdf5(path), Findings()
    names = _names(path, file, data, findings, tuple(NAMES))
    for role in ("x", "y"):
        if role not in names:
            raise _missing(path, file, role)
    arrays = {role: _array(path, _dataset(path, file, name), role, budget) for role, name in names.items()}
    return source_of("hdf5", path, arrays, data, findings)


def read_samples(
    path: Path, data: DataSection, budget: Budget, longest: int = 0, sample_shape: tuple[int, ...] = ()
) -> NewSamples:
    """Return the samples of one dataset, with their lengths and ids; errors as in `read_source`."""
    file, findings = open_hdf5(path), Findings()
    names = _names(path, file, data, findings, SAMPLES)
    if "x" not in names:
        raise _missing(path, file, "x")
    arrays = {role: _array(path, _dataset(path, file, name), role, budget) for role, name in names.items()}
    return samples_of(path, arrays, data, longest, findings, sample_shape)


def peek_shape(path: Path, data: DataSection) -> Peek:
    """Return number, shape and type of the samples, by the headers alone; errors as in `read_source`."""
    with open_hdf5(path) as file:
        names = _names(path, file, data, Findings(), tuple(NAMES))
        if "x" not in names:
            raise _missing(path, file, "x")
        dataset = _dataset(path, file, names["x"])
        return peek_at(f"{path}: {names['x']}", dataset.shape, dataset.dtype, "lengths" in names, data)


class _StoredRows:
    """Rows of a dataset, read in slabs of rows that are close together."""

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        self._path, self._dataset = path, dataset
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        chunk = dataset.chunks[0] if dataset.chunks else 1
        self._gap = max(1, chunk, GAP_BYTES // row_bytes(self))
        self._most = max(chunk, SLAB_BYTES // row_bytes(self), 1)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.shape[0])
            return self._read(start, stop)[::step] if step > 0 else self[np.arange(start, stop, step)]
        wanted, place = np.unique(np.arange(self.shape[0])[rows], return_inverse=True)
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        for start, stop in self._runs(wanted):
            first = int(wanted[start])
            found[start:stop] = self._read(first, int(wanted[stop - 1]) + 1)[wanted[start:stop] - first]
        return found[place]

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        with damage_explained(
            f"{self._path}: rows {start} to {max(start, stop - 1)} of dataset {self._dataset.name} cannot be read: "
            "they are damaged"
        ):
            return np.asarray(self._dataset[start:stop])

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


def _names(
    path: Path, file: h5py.File, data: DataSection, findings: Findings, roles: tuple[str, ...]
) -> dict[str, str]:
    """Return the name of the dataset of each role: those that the user names, and those recognised next to x."""
    given = {
        "x": data.x_name,
        "y": data.y_name,
        "x_test": data.x_test_name,
        "y_test": data.y_test_name,
        "lengths": data.lengths_name,
    }
    group_name, _, _ = data.x_name.strip("/").rpartition("/")
    with damage_explained(f"{path}: damaged: its datasets cannot be listed"):
        beside = dataset_names(file, group_name)
        top = list(file)
    defaults = DataSection()
    for role, default in (("x", defaults.x_name), ("y", defaults.y_name)):
        if given[role] == default and default not in top:
            given[role] = ""
    prefix = f"{group_name}/" if group_name else ""
    named = {role: name for role, name in given.items() if name}
    taken = {name.strip("/").removeprefix(prefix) for name in named.values()}
    found = assign(str(path), beside, findings, set(roles) - set(named), taken)
    if ("x_test" in found) != ("y_test" in found) and "x_test" not in named:
        half = found.pop("x_test", "") or found.pop("y_test")
        findings.leave_out("test samples without labels, or labels without samples", example=half)
    return {
        **{role: prefix + name for role, name in found.items()},
        **{role: name for role, name in named.items() if role in roles},
    }


def _missing(path: Path, file: h5py.File, role: str) -> InputError:
    hint = f" Or set data.{role}_name."
    return missing_key(str(path), role, described_datasets(file), hint)


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset whose content is in this very file: no link on the way leads out of it."""
    node: Any = file
    with damage_explained(f"{path}: damaged: dataset {name} cannot be opened"):
        for part in [part for part in name.split("/") if part]:
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            if link is None:
                known = ", ".join(f"{known} {shape}" for known, shape in described_datasets(file).items()) or "nothing"
                raise InputError(
                    f"{path}: no dataset {name!r}; the file holds {known}. Set data.x_name and data.y_name."
                )
            if not isinstance(link, h5py.HardLink):
                raise InputError(f"{path}: {name} is a link that may lead out of the file, which is not followed.")
            node = node[part]
        if not isinstance(node, h5py.Dataset) or node.shape is None or not node.shape:
            raise InputError(f"{path}: {name} is not a dataset with rows.")
        if node.is_virtual or node.external:
            raise InputError(f"{path}: {name} has its content in other files, which are not followed.")
        refuse_missing_filters(path, node)
    return node


def _array(path: Path, dataset: h5py.Dataset, role: str, budget: Budget) -> Any:
    if h5py.check_string_dtype(dataset.dtype) is None and h5py.check_vlen_dtype(dataset.dtype) is not None:
        raise InputError(
            f"{path}: dataset {dataset.name} has rows of unequal length, which are not read. {UNEQUAL_HINT}"
        )
    if not role.startswith("x"):
        return _texts_or_numbers(path, dataset)
    checked_samples(f"{path}: {dataset.name.strip('/')}", dataset)
    rows = _StoredRows(path, dataset)
    return rows[:] if fits(dataset.shape, dataset.dtype, budget.source) else rows


def _texts_or_numbers(path: Path, dataset: h5py.Dataset) -> NDArray[Any]:
    with damage_explained(f"{path}: dataset {dataset.name} cannot be read: it is damaged"):
        if h5py.check_string_dtype(dataset.dtype) is None:
            return np.asarray(dataset[()])
        try:
            return np.array(dataset.asstr()[()], str)
        except UnicodeDecodeError:
            raise InputError(f"{path}: {dataset.name} holds texts that are not UTF-8.") from None
