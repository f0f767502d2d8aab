"""Measuring which compression is read fastest from the disk of the shards, with samples of the shards."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from rcdp_hpc.data.shards.hdf5_writing import writable_hdf5
from rcdp_hpc.data.shards.writer import Layout, create_samples
from rcdp_hpc.runtime.files import os_errors_explained

log = logging.getLogger(__name__)

FILTERS = ("lzf", "gzip")
SAMPLE_BYTES = 2**24
TURNS = 3


def fastest_compression(directory: Path, layout: Layout, stored: NDArray[Any]) -> str:
    """Return the HDF5 filter with which rows are read back fastest.

    Parameters
    ----------
    directory : Path
        Folder of the shards; the files of the measurement are removed.
    layout : Layout
        Datasets of a shard.
    stored : ndarray, shape (n, *sample_shape)
        Some samples in the stored number format.

    Returns
    -------
    {"lzf", "gzip"}

    Raises
    ------
    StageFailedError, InputError
        If the folder cannot be written, or the disk is full.
    """
    seconds = {}
    for name in FILTERS:
        path = directory / f"measured-{name}.h5"
        try:
            with os_errors_explained(path):
                with writable_hdf5(path) as (file, _):
                    storage = replace(layout.storage, compression=name)
                    create_samples(file, len(stored), replace(layout, storage=storage))
                    file["x"][:] = stored
                seconds[name] = min(_read_seconds(path, len(stored)) for _ in range(TURNS))
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
    speeds = ", ".join(f"{name} {stored.nbytes / taken / 2**20:.0f} MiB/s" for name, taken in seconds.items())
    log.info("speed of reading compressed samples: %s", speeds)
    return min(seconds, key=lambda name: seconds[name])


def _read_seconds(path: Path, rows: int) -> float:
    # Drops the file from the page cache if the file system can do so: the disk favours smaller files, the cache not.
    with open(path, "rb") as file, contextlib.suppress(OSError, AttributeError):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    with h5py.File(path, "r", locking=False) as file:
        file["x"][:rows]
    return time.perf_counter() - started
