"""The source ``hdf5``: datasets of an HDF5 file, read in slabs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import SAMPLE_BYTES, TEXT_BYTES, Budget
from rcdp_hpc.data.sources.array_numbers import UNEQUAL_HINT, checked_samples
from rcdp_hpc.data.sources.arrays import samples_of, source_of
from rcdp_hpc.data.sources.base import NewSamples, Samples, Source, row_bytes
from rcdp_hpc.data.sources.declared import Form, check_declared, rooms
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.hdf5_file import (
    damage_explained,
    dataset_names,
    described_datasets,
    open_hdf5,
    packed_chunk_bytes,
    refuse_large_chunks,
    refuse_missing_filters,
    refuse_unwritten,
)
from rcdp_hpc.data.sources.keys import NAMES, SAMPLES, assign, group_roles, missing_key
from rcdp_hpc.data.sources.reader import SourceReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.data.sources.rows import Spool, fits
from rcdp_hpc.data.sources.sniff import format_of
from rcdp_hpc.errors import InputError

GAP_BYTES = 2**16
SLAB_BYTES = 2**24
# Compressed chunks with more bytes are decompressed once, to a temporary file.
SPOOLED_CHUNK_BYTES = 2**22
TEXT_BLOCK_BYTES = 2**22


class Hdf5Reader(SourceReader):
    """Datasets of samples and labels in an HDF5 file."""

    file_formats = ("hdf5",)

    def read(self, request: SourceRequest) -> Source:
        """Read the datasets that ``data.x_name``, ``data.y_name`` and the other keys name.

        Parameters
        ----------
        request : SourceRequest
            Its path is the file. The keys name datasets as in ``group/images``. Datasets that no key names are
            recognised in the group of the samples, by the names that npz files use. Samples beyond the memory budget
            stay in the file and are read when they are needed.

        Raises
        ------
        InputError
            If the file is missing, damaged or open for writing elsewhere, or a dataset is missing, is outside the file
            or does not hold numbers.
        """
        path, data, budget = request.path, request.data, request.budget
        file, findings = open_hdf5(path), Findings()
        groups = _group_names(path, file, data.group_name)
        names = _names(path, file, data, findings, tuple(NAMES), groups) | groups
        for role in ("x", "y"):
            if role not in names:
                raise _missing(path, file, role)
        return source_of("hdf5", path, _arrays(path, file, names, budget), data, findings)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the file is an HDF5 file."""
        return path.is_file() and format_of(path).name == "hdf5"


def read_samples(request: SampleRequest) -> NewSamples:
    """Return the samples of one dataset, with their lengths and ids; errors are those of `Hdf5Reader.read`."""
    path, data = request.path, request.data
    file, findings = open_hdf5(path), Findings()
    names = _names(path, file, data, findings, SAMPLES)
    if "x" not in names:
        raise _missing(path, file, "x")
    arrays = _arrays(path, file, names, request.budget)
    return samples_of(path, arrays, data, request.longest, findings, request.shape)


class _StoredRows:
    """Rows of a dataset; rows that are close together are read in one slab."""

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        self._path = path
        self._dataset = dataset
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
        samples = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        for start, stop in self._runs(wanted):
            first = int(wanted[start])
            samples[start:stop] = self._read(first, int(wanted[stop - 1]) + 1)[wanted[start:stop] - first]
        return samples[place]

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
    path: Path,
    file: h5py.File,
    data: DataSection,
    findings: Findings,
    roles: tuple[str, ...],
    others: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return the dataset of each role: those that keys name, and those recognised in the group of x.

    The datasets of `others` have a role already.
    """
    settings = {
        "x": data.x_name,
        "y": data.y_name,
        "x_test": data.x_test_name,
        "y_test": data.y_test_name,
        "lengths": data.lengths_name,
    }
    group_name, _, _ = data.x_name.strip("/").rpartition("/")
    with damage_explained(f"{path}: damaged: its datasets cannot be listed"):
        siblings = dataset_names(file, group_name)
        top = list(file)
    defaults = DataSection()
    for role, default in (("x", defaults.x_name), ("y", defaults.y_name)):
        if settings[role] == default and default not in top:
            settings[role] = ""
    prefix = f"{group_name}/" if group_name else ""
    named = {role: name for role, name in settings.items() if name}
    taken = {name.strip("/").removeprefix(prefix) for name in [*named.values(), *others.values()]}
    recognised = assign(str(path), siblings, findings, set(roles) - set(named), taken)
    if ("x_test" in recognised) != ("y_test" in recognised) and "x_test" not in named:
        half = recognised.pop("x_test", "") or recognised.pop("y_test")
        findings.leave_out("test samples without labels, or labels without samples", example=half)
    return {
        **{role: prefix + name for role, name in recognised.items()},
        **{role: name for role, name in named.items() if role in roles},
    }


def _group_names(path: Path, file: h5py.File, name: str) -> dict[str, str]:
    """Return the datasets of groups by their roles; errors are those of `keys.group_roles`."""
    parent, _, last = name.strip("/").rpartition("/")
    if not name:
        return {}
    with damage_explained(f"{path}: damaged: its datasets cannot be listed"):
        found = group_roles(str(path), last, dataset_names(file, parent))
    return {role: f"{parent}/{one}" if parent else one for role, one in found.items()}


def _missing(path: Path, file: h5py.File, role: str) -> InputError:
    hint = f" Or set data.{role}_name."
    return missing_key(str(path), role, described_datasets(file), hint)


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset whose content is in this file; links that may lead out of it are refused."""
    node: Any = file
    with damage_explained(f"{path}: damaged: dataset {name} cannot be opened"):
        for part in [part for part in name.split("/") if part]:
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            if link is None:
                content = (
                    ", ".join(f"{known} {shape}" for known, shape in described_datasets(file).items()) or "nothing"
                )
                raise InputError(
                    f"{path}: no dataset {name!r}; the file holds {content}. Set data.x_name and data.y_name."
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


def _arrays(path: Path, file: h5py.File, names: dict[str, str], budget: Budget) -> dict[str, Any]:
    """Return the arrays by their roles, after a check of their declared forms."""
    datasets = {role: _dataset(path, file, name) for role, name in names.items()}
    forms = {role: Form(dataset.shape, dataset.dtype) for role, dataset in datasets.items()}
    for dataset in datasets.values():
        refuse_unwritten(path, dataset)
    check_declared(path, forms, budget)
    for dataset in datasets.values():
        refuse_large_chunks(path, dataset, budget)
    room = rooms(forms, budget)
    return {role: _array(path, dataset, budget, room.get(role)) for role, dataset in datasets.items()}


def _array(path: Path, dataset: h5py.Dataset, budget: Budget, room: int | None) -> Any:
    """Return an array in memory, or rows that are read from the file if samples need more than `room` bytes.

    `room` is None for arrays that are not samples.
    """
    if h5py.check_string_dtype(dataset.dtype) is None and h5py.check_vlen_dtype(dataset.dtype) is not None:
        raise InputError(
            f"{path}: dataset {dataset.name} has rows of unequal length, which are not read. {UNEQUAL_HINT}"
        )
    if room is None:
        return _texts_or_numbers(path, dataset, budget)
    checked_samples(f"{path}: {dataset.name.strip('/')}", dataset)
    rows = _StoredRows(path, dataset)
    if fits(dataset.shape, dataset.dtype, room):
        return rows[:]
    return _unpacked(rows, dataset, room) if packed_chunk_bytes(dataset) > SPOOLED_CHUNK_BYTES else rows


def _unpacked(rows: _StoredRows, dataset: h5py.Dataset, room: int) -> Samples:
    """Decompress large chunks once, in order, to a temporary file: reading a few rows decompresses a whole chunk."""
    spool = Spool(dataset.shape[1:], dataset.dtype, room)
    size = max(1, min(dataset.chunks[0], SLAB_BYTES // row_bytes(rows)))
    for first in range(0, dataset.shape[0], dataset.chunks[0]):
        last = min(dataset.shape[0], first + dataset.chunks[0])
        for start in range(first, last, size):
            spool.add(rows[start : min(last, start + size)])
    return spool.finish()


def _texts_or_numbers(path: Path, dataset: h5py.Dataset, budget: Budget) -> NDArray[Any]:
    with damage_explained(f"{path}: dataset {dataset.name} cannot be read: it is damaged"):
        if h5py.check_string_dtype(dataset.dtype) is None:
            return np.asarray(dataset[()])
        try:
            return _texts(path, dataset, budget)
        except UnicodeDecodeError:
            raise InputError(f"{path}: {dataset.name} holds texts that are not UTF-8.") from None


def _texts(path: Path, dataset: h5py.Dataset, budget: Budget) -> NDArray[Any]:
    """Return texts as objects, each different text held once; no header declares their lengths."""
    texts = dataset.asstr()
    texts_by_row = np.empty(dataset.shape, object)
    interned: dict[str, str] = {}
    letters = start = 0
    size = 1
    while start < len(texts_by_row):
        block = texts[start : start + size]
        longest = max((len(text) for text in block.flat), default=0)
        for place, text in enumerate(block.flat, start * (block.size // len(block))):
            if text not in interned:
                interned[text] = text
                letters += 2 * TEXT_BYTES + len(text)
            texts_by_row.flat[place] = interned[text]
        budget.refuse_rows(f"{path}: {dataset.name}", len(texts_by_row), SAMPLE_BYTES, letters)
        start += len(block)
        # The next block may hold longer texts: it grows by steps while texts are short.
        size = max(1, min(4 * size, TEXT_BLOCK_BYTES // (longest + 1)))
    return texts_by_row
