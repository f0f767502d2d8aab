"""Reading shards: any range of rows of a split, across its files."""

from __future__ import annotations

import bisect
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config, refuse_other_settings
from rcdp_hpc.data.shards.index import REPAIR_ADVICE, load_index, shard_settings, splits_in
from rcdp_hpc.data.shards.storage import VALUES, Storage, storage_of_index
from rcdp_hpc.data.shards.writer import Layout
from rcdp_hpc.data.split import Split
from rcdp_hpc.errors import DataDamagedError, RcdpError
from rcdp_hpc.runtime.digests import file_sha256
from rcdp_hpc.runtime.os_errors import errno_of, explain_os_error, first_line

OPEN_FILES = 16
CACHE_BYTES = 2**23


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a split.

    Attributes
    ----------
    x : ndarray of float32, shape (n, *sample_shape)
        Samples, scaled; of `ShardReader.read_stored` in the stored number format.
    y : ndarray of int32, shape (n,)
        Class indices.
    synthetic : ndarray of bool, shape (n,)
        Whether the balancing made the row.
    source_index : ndarray of int64, shape (n,)
        Index of the sample in the source; of a synthetic row, the sample that it starts from.
    neighbour_index : ndarray of int64, shape (n,)
        Index of the sample that a synthetic row goes towards; -1 for original rows.
    step : ndarray of float32, shape (n,)
        Position of a synthetic row between the two samples; 0 for original rows.
    length : ndarray of int32, shape (n,), or None
        Steps of each sample that hold data, the rest is padding; None if no sample is padded.
    group : ndarray of int32, shape (n,), or None
        Group of each sample (its patient, subject or site) by its number in index.json, -1 if it is unknown; of a
        synthetic row, that of the sample it starts from. None if samples have no groups.
    storage : Storage
        Number format of `x`; by default values.
    """

    x: NDArray[Any]
    y: NDArray[np.int32]
    synthetic: NDArray[np.bool_]
    source_index: NDArray[np.int64]
    neighbour_index: NDArray[np.int64]
    step: NDArray[np.float32]
    length: NDArray[np.int32] | None = None
    group: NDArray[np.int32] | None = None
    storage: Storage = VALUES


def open_shards(config: Config, directory: Path) -> ShardReader:
    """Open the shards of a configuration.

    Raises
    ------
    InputError
        If there are no shards, or they were prepared with other settings.
    DataDamagedError
        If the index is damaged.
    """
    shards = ShardReader(directory, verify=config.data.verify_on_read)
    refuse_other_settings(str(directory), shards.index["settings"], shard_settings(config), "data")
    return shards


class ShardReader:
    """The shards of a run directory, read-only.

    Each process opens a file when it first reads rows of it, without locks, which NFS and Lustre may not support. A
    `ShardReader` can be pickled and used after a fork.

    Parameters
    ----------
    directory : str or Path
        Folder of the shards (``RUN/shards``).
    verify : bool
        Check the SHA-256 of each file before its rows are used. The length is always checked.

    Attributes
    ----------
    index : dict
        The content of index.json.
    classes : list of str
        Names of the classes, in the order of their indices.
    sample_shape : tuple of int
        Shape of one sample.
    scale : float
        Factor of the raw samples of the source.
    layout : Layout
        Datasets of a shard; ``layout.has_lengths`` is whether samples are padded.
    local_copies : dict of str to Path
        Files that are read from a copy (`rcdp_hpc.data.shards.stage_in`).

    Raises
    ------
    InputError
        If there is no index.json.
    DataDamagedError
        If index.json is damaged; on reading, if a shard is missing, changed or does not have the expected form.

    Examples
    --------
    >>> shards = rcdp_hpc.ShardReader("run/shards")  # doctest: +SKIP
    >>> shards.read("train", 0, 640).x.shape  # doctest: +SKIP
    (640, 8, 8)
    """

    def __init__(self, directory: str | Path, verify: bool = True) -> None:
        self.directory = Path(directory)
        self.verify = verify
        self.index = load_index(self.directory)
        self.classes: list[str] = self.index["classes"]
        self.sample_shape: tuple[int, ...] = tuple(self.index["sample_shape"])
        self.scale: float = self.index["scale"]
        has_lengths, has_groups = self.index.get("lengths", False), self.index.get("groups") is not None
        self.layout = Layout(self.sample_shape, storage_of_index(self.index), has_lengths, has_groups)
        # The first row of each shard, and the number of all rows.
        self._starts: dict[str, list[int]] = {
            split: [0, *accumulate(shard["rows"] for shard in self._entry(split)["shards"])] for split in self.splits
        }
        # Rows are read once, in order, so that a chunk cache would only cost a copy; compressed chunks need it.
        self._cache_bytes = 0 if self.layout.storage.compression == "none" else CACHE_BYTES
        self._checked: set[str] = set()
        self.local_copies: dict[str, Path] = {}
        self._open: OrderedDict[str, h5py.File] = OrderedDict()
        self._process = os.getpid()

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits: "train", "validation" and "test", and "reserve" if there is one."""
        return splits_in(self.index)

    @property
    def shortest(self) -> int | None:
        """Steps of the shortest series of all splits; None if no sample is padded or the index is too old."""
        steps: int | None = self.index.get("shortest")
        return steps

    @property
    def digest(self) -> str:
        """The SHA-256 of the digests of all shards: preparations with the same digest hold the same rows."""
        parts = [shard["sha256"] for split in self.splits for shard in self.index["splits"][split]["shards"]]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def rows(self, split: str) -> int:
        """Return the number of rows of a split."""
        return int(self._entry(split)["rows"])

    def class_counts(self, split: str) -> NDArray[np.int64]:
        """Return the number of rows of each class, shape (C,)."""
        return np.array(self._entry(split)["class_counts"], np.int64)

    def read(self, split: str, start: int, stop: int) -> Rows:
        """Return rows `start` to `stop` - 1 of a split; no other rows are read.

        Parameters
        ----------
        split : {"train", "validation", "test", "reserve"}
            One of `splits`.
        start, stop : int
            Range of rows, ``0 <= start <= stop <= rows(split)``.

        Returns
        -------
        Rows
            Samples, class indices and origins, ``stop - start`` of each.

        Raises
        ------
        DataDamagedError
            If a file of these rows is missing, changed or does not have the expected form.
        IndexError
            If the split has no such rows.
        """
        return Rows(**self.columns(split, start, stop, ("x", *self.layout.columns)), storage=VALUES)

    def read_stored(self, split: str, start: int, stop: int) -> Rows:
        """Return rows as `read`, but samples in the stored number format."""
        columns = self._stored(split, start, stop, ("x", *self.layout.columns))
        return Rows(**columns, storage=self.layout.storage)

    def columns(self, split: str, start: int, stop: int, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return rows `start` to `stop` - 1 of some datasets, by name; errors as in `read`."""
        result = self._stored(split, start, stop, names)
        if "x" in result:
            result["x"] = self.layout.storage.decode(result["x"])
        return result

    def stored(self, split: str, start: int, stop: int) -> NDArray[Any]:
        """Return the samples of some rows in the stored number format, not scaled; errors as in `read`."""
        return self._stored(split, start, stop, ("x",))["x"]

    def _stored(self, split: str, start: int, stop: int, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        total = self._starts[split][-1]
        if not 0 <= start <= stop <= total:
            raise IndexError(f"rows {start} to {stop} of {split}, which has {total}")
        result = {
            name: np.empty((stop - start, *self._shape(name)), self._dtype(name).newbyteorder("=")) for name in names
        }
        for entry, first, low, high in self._shards_of(split, start, stop):
            file = self._file(entry)
            for name, array in result.items():
                target = array[first + low - start : first + high - start]
                try:
                    file[name].read_direct(target, source_sel=np.s_[low:high])
                except (OSError, RuntimeError) as error:
                    raise self._unreadable(entry, f"{name} cannot be read", error) from None
        return result

    def entries(self, split: str, start: int, stop: int) -> list[dict[str, Any]]:
        """Return the entries in index.json of the files that hold some rows."""
        return [entry for entry, *_ in self._shards_of(split, start, stop)]

    def damaged(self, split: str, start: int, stop: int, check_stop: Callable[[], None]) -> dict[str, str]:
        """Return the damaged files among those that hold some rows, with the damage by file name.

        The checks are those of `read`: without `verify`, the content is not checked.
        """
        damage = {}
        for entry, *_ in self._shards_of(split, start, stop):
            check_stop()
            try:
                self._file(entry)
            except DataDamagedError as error:
                damage[entry["file"]] = str(error)
        return damage

    def close(self) -> None:
        """Close all files; the next read opens them again."""
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def _entry(self, split: str) -> dict[str, Any]:
        if split not in self.splits:
            raise ValueError(f"split {split!r} is not one of {', '.join(self.splits)}")
        entry: dict[str, Any] = self.index["splits"][split]
        return entry

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.sample_shape if name == "x" else ()

    def _dtype(self, name: str) -> np.dtype[Any]:
        return self.layout.storage.dtype if name == "x" else self.layout.columns[name]

    def _shards_of(self, split: str, start: int, stop: int) -> Iterator[tuple[dict[str, Any], int, int, int]]:
        """Yield the entry of each shard with some of the rows, its first row, and the range of rows within it."""
        starts = self._starts[split]
        number = bisect.bisect_right(starts, start) - 1
        while start < stop:
            first, end = starts[number], min(stop, starts[number + 1])
            yield self._entry(split)["shards"][number], first, start - first, end - first
            start, number = end, number + 1

    def _file(self, entry: dict[str, Any]) -> h5py.File:
        if self._process != os.getpid():
            # An HDF5 file must not be used by a process that did not open it.
            self._open, self._process = OrderedDict(), os.getpid()
        name = entry["file"]
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        self._check_bytes(entry)
        try:
            file = h5py.File(self._path(entry), "r", locking=False, rdcc_nbytes=self._cache_bytes)
        except OSError as error:
            raise self._unreadable(entry, "cannot be opened as HDF5", error) from None
        try:
            self._check_form(file, entry)
        except BaseException:
            file.close()
            raise
        self._open[name] = file
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return file

    def _check_bytes(self, entry: dict[str, Any]) -> None:
        path = self._path(entry)
        if path.is_symlink() or not path.is_file():
            raise self._damaged(entry, "missing" if not path.is_symlink() else "a symbolic link, which is not followed")
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise self._damaged(entry, f"{size} bytes long, expected {entry['bytes']}")
        if self.verify and entry["file"] not in self._checked:
            if file_sha256(path) != entry["sha256"]:
                raise self._damaged(entry, "its content has changed since it was written (SHA-256 differs)")
            self._checked.add(entry["file"])

    def _check_form(self, file: h5py.File, entry: dict[str, Any]) -> None:
        """Refuse a file without the expected datasets, or with content in other files."""
        for name in ("x", *self.layout.columns):
            link = file.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise self._damaged(entry, f"{name} is missing or links to another file")
            dataset = file[name]
            if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
                raise self._damaged(entry, f"{name} is not a dataset with its content in the file")
            shape = (entry["rows"], *self._shape(name))
            if dataset.shape != shape or dataset.dtype != self._dtype(name):
                actual = f"{dataset.dtype} of shape {dataset.shape}"
                raise self._damaged(entry, f"{name} is {actual}, expected {self._dtype(name)} of shape {shape}")

    def _unreadable(self, entry: dict[str, Any], what: str, error: Exception) -> RcdpError:
        """Return the error for a file that HDF5 cannot read: an error of the disk, or damaged content."""
        number = errno_of(error)
        if number:
            return explain_os_error(OSError(number, os.strerror(number)), self._path(entry), reading=True)
        return self._damaged(entry, f"{what} ({first_line(error)})")

    def _damaged(self, entry: dict[str, Any], what: str) -> DataDamagedError:
        return DataDamagedError(f"{self._path(entry)}: {what}. {REPAIR_ADVICE}")

    def _path(self, entry: dict[str, Any]) -> Path:
        return self.local_copies.get(entry["file"], self.directory / entry["file"])
