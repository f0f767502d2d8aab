"""Writing shards: HDF5 files with the same bytes for the same rows, whatever machine or thread writes them."""

from __future__ import annotations

import errno
import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.index import shard_file
from rcdp_hpc.data.rows import RowTable, make_samples
from rcdp_hpc.data.sources import Source
from rcdp_hpc.data.split import Split, slab_bounds

CHUNK_BYTES = 2**20
COLUMNS: dict[str, np.dtype[Any]] = {
    "y": np.dtype("<i4"),
    "synthetic": np.dtype(bool),
    "source_index": np.dtype("<i8"),
    "neighbour_index": np.dtype("<i8"),
    "step": np.dtype("<f4"),
}
SAMPLE_TYPE = np.dtype("<f4")
COLUMN_CHUNK_ROWS = 2**14
HEADER_BYTES = 2**16


def shard_numbers(rows: dict[Split, int], train_shards: int) -> dict[Split, int]:
    """Return how many shards each split gets: as many for training as asked, the others of about the same size."""
    numbers: dict[Split, int] = {}
    size = math.ceil(rows["train"] / train_shards)
    for split, count in rows.items():
        numbers[split] = min(count, train_shards if split == "train" else math.ceil(count / size))
    return numbers


def shards_bytes(rows: int, shards: int, sample_shape: tuple[int, ...]) -> int:
    """Return how much room the shards of a split take, at most."""
    each = math.ceil(rows / shards)
    return shards * (_chunked_bytes(each, sample_shape) + _header_bytes(each, sample_shape))


def write_split(
    folder: Path, split: Split, rows: RowTable, shards: int, source: Source, advance: Callable[[int], None]
) -> dict[str, Any]:
    """Write the shards of a split, each a contiguous slab of the rows, and return the split's entry in the index.

    Parameters
    ----------
    folder : Path
        Where to write.
    split : str
        "train", "validation" or "test".
    rows : RowTable
        All rows of the split, interleaved.
    shards : int
        Number of files, at most the number of rows.
    source : Source
        Where the samples come from.
    advance : callable
        Told how many rows have been written; may raise to stop.

    Raises
    ------
    OSError
        If the disk is full or fails.
    """
    classes = len(source.classes)
    entries = []
    for number in range(shards):
        slab = rows.part(slice(*slab_bounds(len(rows), number, shards)))
        path = folder / shard_file(split, number, shards)
        write_shard(path, slab, source, advance)
        entries.append(
            {
                "file": path.name,
                "rows": len(slab),
                "class_counts": slab.counts(classes),
                "synthetic_counts": slab.synthetic_counts(classes),
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


def write_shard(path: Path, rows: RowTable, source: Source, advance: Callable[[int], None]) -> None:
    """Write one shard; parameters and errors as in `write_split`."""
    _lay_out(path, len(rows), source.sample_shape)
    # The HDF5 library was seen to crash the process on a full disk, so all room is taken before it writes:
    # from here on it only fills in what is there.
    _reserve(path, path.stat().st_size)
    with h5py.File(path, "r+", locking=False) as file:
        _write_chunks(file["y"], rows.y, 0)
        _write_chunks(file["synthetic"], rows.synthetic, 0)
        _write_chunks(file["source_index"], rows.source, 0)
        _write_chunks(file["neighbour_index"], rows.neighbour, 0)
        _write_chunks(file["step"], rows.step, 0)
        block = file["x"].chunks[0]
        for start in range(0, len(rows), block):
            part = rows.part(slice(start, start + block))
            _write_chunks(file["x"], make_samples(source, part), start)
            advance(len(part))
    with path.open("rb") as written:
        os.fsync(written.fileno())


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lay_out(path: Path, rows: int, sample_shape: tuple[int, ...]) -> None:
    """Create the file with all its datasets and no content."""
    # The little that this writes must find room, too.
    _reserve(path, _header_bytes(rows, sample_shape))
    with h5py.File(path, "w", locking=False) as file:
        chunk = _chunk_rows(rows, sample_shape)
        _create(file, "x", SAMPLE_TYPE, (rows, *sample_shape), (chunk, *sample_shape))
        for name, dtype in COLUMNS.items():
            _create(file, name, dtype, (rows,), (min(rows, COLUMN_CHUNK_ROWS),))


def _create(file: h5py.File, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk(chunk)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    # Every byte is written below, the rest of the last chunk included.
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype, logical=True), space, layout)


def _write_chunks(dataset: h5py.Dataset, values: NDArray[Any], start: int) -> None:
    """Write rows from `start`, which begins a chunk, as whole chunks, the last one filled up with zeros."""
    size = dataset.chunks[0]
    for offset in range(0, len(values), size):
        block = np.zeros(dataset.chunks, dataset.dtype)
        part = values[offset : offset + size]
        block[: len(part)] = part
        dataset.id.write_direct_chunk((start + offset, *(0,) * (values.ndim - 1)), block.tobytes())


def _reserve(path: Path, size: int) -> None:
    """Make the file at least so long, with room on disk for all of it."""
    with path.open("ab") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            # Some file systems cannot reserve room. There, the check before writing has to do.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise


def _chunk_rows(rows: int, sample_shape: tuple[int, ...]) -> int:
    return min(rows, max(1, CHUNK_BYTES // (SAMPLE_TYPE.itemsize * math.prod(sample_shape))))


def _chunked_bytes(rows: int, sample_shape: tuple[int, ...]) -> int:
    chunk, column_chunk = _chunk_rows(rows, sample_shape), min(rows, COLUMN_CHUNK_ROWS)
    samples = math.ceil(rows / chunk) * chunk * math.prod(sample_shape) * SAMPLE_TYPE.itemsize
    return samples + sum(math.ceil(rows / column_chunk) * column_chunk * dtype.itemsize for dtype in COLUMNS.values())


def _header_bytes(rows: int, sample_shape: tuple[int, ...]) -> int:
    chunks = math.ceil(rows / _chunk_rows(rows, sample_shape)) + len(COLUMNS) * math.ceil(rows / COLUMN_CHUNK_ROWS)
    return HEADER_BYTES + 128 * chunks
