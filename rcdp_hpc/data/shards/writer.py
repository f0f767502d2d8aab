"""Writing shards: HDF5 files whose bytes depend only on the rows, not on the machine or the number of threads."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.rows import RowTable, make_samples
from rcdp_hpc.data.shards.hdf5_writing import named, writable_hdf5
from rcdp_hpc.data.shards.index import shard_file
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.sources import Source
from rcdp_hpc.data.split import Split, slab_bounds
from rcdp_hpc.runtime.digests import file_sha256
from rcdp_hpc.runtime.files import free_bytes, reserve

CHUNK_BYTES = 2**20
# Smaller files would take longer to open than to read.
FEWEST_ROWS = 256
FEWEST_BYTES = 2**20
GZIP_LEVEL = 1
COLUMNS: dict[str, np.dtype[Any]] = {
    "y": np.dtype("<i4"),
    "synthetic": np.dtype(bool),
    "source_index": np.dtype("<i8"),
    "neighbour_index": np.dtype("<i8"),
    "step": np.dtype("<f4"),
}
LENGTHS: dict[str, np.dtype[Any]] = {"length": np.dtype("<i4")}
GROUPS: dict[str, np.dtype[Any]] = {"group": np.dtype("<i4")}
COLUMN_CHUNK_ROWS = 2**14
HEADER_BYTES = 2**16
SPARE_BYTES = 2**24


@dataclass(frozen=True)
class Layout:
    """The datasets of a shard.

    Attributes
    ----------
    sample_shape : tuple of int
        Shape of a sample.
    storage : Storage
        Number format and compression of samples.
    has_lengths : bool
        Whether samples are padded, so that rows have lengths.
    has_groups : bool
        Whether samples have groups: patients, subjects, sites.
    """

    sample_shape: tuple[int, ...]
    storage: Storage
    has_lengths: bool = False
    has_groups: bool = False

    @classmethod
    def of(cls, source: Source, storage: Storage) -> Layout:
        """Return the datasets of the shards of a source."""
        return cls(source.sample_shape, storage, source.has_lengths, source.has_groups)

    @property
    def columns(self) -> dict[str, np.dtype[Any]]:
        """Datasets other than ``x``."""
        return {**COLUMNS, **(LENGTHS if self.has_lengths else {}), **(GROUPS if self.has_groups else {})}


def shard_numbers(rows: dict[Split, int], train_shards: int, row_bytes: int = 1) -> dict[Split, int]:
    """Return the number of shards of each split: at most `train_shards` for training, and others of a similar size.

    Shards of the other splits have at least 256 rows, or 1 MiB if that is fewer rows.

    Parameters
    ----------
    rows : dict
        Rows of each split.
    train_shards : int
        ``data.shards``.
    row_bytes : int
        Bytes of a stored sample.

    Examples
    --------
    >>> shard_numbers({"train": 62, "validation": 6, "test": 1029}, 16)
    {'train': 16, 'validation': 1, 'test': 5}
    """
    least = min(FEWEST_ROWS, max(1, FEWEST_BYTES // row_bytes))
    size = max(math.ceil(rows["train"] / train_shards), least)
    return {
        split: min(count, train_shards if split == "train" else math.ceil(count / size))
        for split, count in rows.items()
    }


def shards_bytes(rows: int, shards: int, layout: Layout) -> int:
    """Return the most bytes that the shards of a split can take."""
    each = math.ceil(rows / shards)
    return shards * (_chunked_bytes(each, layout) + _header_bytes(each, layout))


def write_split(
    folder: Path,
    split: Split,
    rows: RowTable,
    shards: int,
    source: Source,
    storage: Storage,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Write the shards of a split, each a contiguous range of rows, and return the entry of the split in the index.

    Parameters
    ----------
    folder : Path
        Folder of the shards.
    split : str
        "train", "validation", "test" or "reserve".
    rows : RowTable
        All rows of the split, interleaved.
    shards : int
        Number of files, at most the number of rows.
    source : Source
        The samples.
    storage : Storage
        How samples are stored.
    advance : callable
        Called with the number of rows that have been written; may raise to stop.

    Raises
    ------
    OSError
        If the disk is full or fails.
    """
    classes = len(source.classes)
    entries = []
    for number in range(shards):
        shard = rows.part(slice(*slab_bounds(len(rows), number, shards)))
        path = folder / shard_file(split, number, shards)
        write_shard(path, shard, source, storage, advance)
        entries.append(
            {
                "file": path.name,
                "rows": len(shard),
                "class_counts": shard.counts(classes),
                "synthetic_counts": shard.synthetic_counts(classes),
                "bytes": path.stat().st_size,
                "sha256": file_sha256(path),
            }
        )
    return {
        "rows": len(rows),
        "class_counts": rows.counts(classes),
        "synthetic_counts": rows.synthetic_counts(classes),
        "shards": entries,
    }


def write_shard(path: Path, rows: RowTable, source: Source, storage: Storage, advance: Callable[[int], None]) -> None:
    """Write one shard; parameters and errors as in `write_split`."""
    layout = Layout.of(source, storage)
    # Creating the datasets writes a few bytes.
    _reserve(path, _header_bytes(len(rows), layout))
    with writable_hdf5(path) as (file, check):
        _create_datasets(file, len(rows), layout)
        file.flush()
        check()
        # The whole file is allocated now, so that a disk that is too small is found before hours of work. From here on
        # no uncompressed dataset grows. The size of compressed data is unknown until they are written.
        _reserve(path, path.stat().st_size)
        _write_chunks(file["y"], rows.y, 0)
        _write_chunks(file["synthetic"], rows.synthetic, 0)
        _write_chunks(file["source_index"], rows.source, 0)
        _write_chunks(file["neighbour_index"], rows.neighbour, 0)
        _write_chunks(file["step"], rows.step, 0)
        lengths = source.lengths(rows.source)
        if lengths is not None:
            _write_chunks(file["length"], lengths, 0)
        groups = source.groups(rows.source)
        if groups is not None:
            _write_chunks(file["group"], groups, 0)
        block = file["x"].chunks[0]
        for start in range(0, len(rows), block):
            part = rows.part(slice(start, start + block))
            stored = storage.encode(make_samples(source, part, storage))
            if storage.compression == "none":
                _write_chunks(file["x"], stored, start)
            else:
                _refuse_full_disk(path, stored.nbytes)
                file["x"][start : start + len(part)] = stored
            check()
            advance(len(part))


def _create_datasets(file: h5py.File, rows: int, layout: Layout) -> None:
    """Create all datasets, empty."""
    create_samples(file, rows, layout)
    for name, dtype in layout.columns.items():
        _create(file, name, dtype, (rows,), (min(rows, COLUMN_CHUNK_ROWS),))


def create_samples(file: h5py.File, rows: int, layout: Layout) -> None:
    """Create the dataset ``x`` with this number of rows, empty."""
    chunk, shape = _chunk_rows(rows, layout), layout.sample_shape
    _create(file, "x", layout.storage.dtype, (rows, *shape), (chunk, *shape), layout.storage.compression)


def _create(
    file: h5py.File,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    compression: str = "none",
) -> None:
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk(chunk)
    if compression == "none":
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        # `_write_chunks` writes every byte, also the unused rows of the last chunk.
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    else:
        layout.set_shuffle()
        if compression == "gzip":
            layout.set_deflate(GZIP_LEVEL)
        else:
            layout.set_filter(h5py.h5z.FILTER_LZF, h5py.h5z.FLAG_OPTIONAL)
    layout.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, layout)


def _refuse_full_disk(path: Path, size: int) -> None:
    """Raise an `OSError` if the disk would be almost full after writing `size` bytes."""
    if free_bytes(path.parent) < size + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _write_chunks(dataset: h5py.Dataset, values: NDArray[Any], start: int) -> None:
    """Write rows as whole chunks, the last one padded with zeros; `start` is the first row of a chunk."""
    size = dataset.chunks[0]
    for offset in range(0, len(values), size):
        block = np.zeros(dataset.chunks, dataset.dtype)
        part = values[offset : offset + size]
        block[: len(part)] = part
        dataset.id.write_direct_chunk((start + offset, *(0,) * (values.ndim - 1)), block.tobytes())


def _reserve(path: Path, size: int) -> None:
    """Make the file at least `size` bytes long and allocate its blocks on disk."""
    with named(path), path.open("r+b" if path.exists() else "x+b", buffering=0) as file:
        reserve(file, size)


def _chunk_rows(rows: int, layout: Layout) -> int:
    return min(rows, max(1, CHUNK_BYTES // (layout.storage.dtype.itemsize * math.prod(layout.sample_shape))))


def _chunked_bytes(rows: int, layout: Layout) -> int:
    chunk, column_chunk = _chunk_rows(rows, layout), min(rows, COLUMN_CHUNK_ROWS)
    samples = math.ceil(rows / chunk) * chunk * math.prod(layout.sample_shape) * layout.storage.dtype.itemsize
    columns = sum(dtype.itemsize for dtype in layout.columns.values())
    return samples + math.ceil(rows / column_chunk) * column_chunk * columns


def _header_bytes(rows: int, layout: Layout) -> int:
    chunks = math.ceil(rows / _chunk_rows(rows, layout))
    return HEADER_BYTES + 128 * (chunks + len(layout.columns) * math.ceil(rows / COLUMN_CHUNK_ROWS))
