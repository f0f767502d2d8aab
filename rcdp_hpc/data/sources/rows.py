"""Samples in files, read by their index: mapped arrays, spooled rows, sequences of unequal length."""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.base import Samples
from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.runtime.os_errors import UNSUPPORTED

RELEASE_BYTES = 2**26
BLOCK_STEPS = 2**18
# Bytes that one access to a mapped file can map: kernels cache files in folios of up to this size.
FOLIO_BYTES = 2**21


class MappedRows:
    """Rows of a file that is mapped into memory; its pages are released after use.

    Parameters
    ----------
    array : numpy.memmap, shape (N, ...)
        The mapped file.
    """

    def __init__(self, array: np.memmap[Any, Any]) -> None:
        self._array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self._touched = 0

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        values = np.array(self._array[rows])
        # Pages of a mapped file count as memory of this process until they are released.
        self._touched += max(values.nbytes, min(len(values) * FOLIO_BYTES, self._array.nbytes))
        if self._touched > RELEASE_BYTES:
            self._touched = 0
            mapping: mmap.mmap = self._array._mmap  # type: ignore[attr-defined]
            if hasattr(mapping, "madvise"):
                mapping.madvise(mmap.MADV_DONTNEED)
        return values


class Spool:
    """Collects rows block by block, in memory if they fit and otherwise in a temporary file.

    The file is in ``$TMPDIR``. It has no name, so it is deleted when the process ends.

    Parameters
    ----------
    row_shape : tuple of int
        Shape of one row.
    dtype : numpy.dtype
        Number format.
    room : int
        Bytes that may be held in memory.
    """

    def __init__(self, row_shape: tuple[int, ...], dtype: np.dtype[Any], room: int) -> None:
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype)
        self.room = room
        self._blocks: list[NDArray[Any]] = []
        self._file: BinaryIO | None = None
        self._held = 0
        self.rows = 0

    def add(self, block: NDArray[Any]) -> None:
        """Add rows, shape (n, *row_shape)."""
        block = np.ascontiguousarray(block, dtype=self.dtype).reshape(-1, *self.row_shape)
        self.rows += len(block)
        self._held += block.nbytes
        if self._file is None and self._held > self.room:
            self._file = tempfile.TemporaryFile(prefix="rcdp-")  # type: ignore[assignment]  # noqa: SIM115
            for earlier in self._blocks:
                self._write(earlier)
            self._blocks = []
        if self._file is None:
            self._blocks.append(block)
        else:
            self._write(block)

    def finish(self) -> Samples:
        """Return all rows, shape (rows, *row_shape)."""
        shape = (self.rows, *self.row_shape)
        if self._file is None:
            return np.concatenate(self._blocks) if self._blocks else np.empty(shape, self.dtype)
        with _errors_explained():
            self._file.flush()
        with _errors_explained():
            return MappedRows(_memmap(self._file, self.dtype, shape))

    def _write(self, block: NDArray[Any]) -> None:
        assert self._file is not None
        with _errors_explained():
            self._file.write(block.data if block.size else b"")


@contextmanager
def _errors_explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StageFailedError(
            f"{tempfile.gettempdir()}: a source beyond data.memory_budget is stored here, which failed "
            f"({error.strerror or error}). Free some space, set TMPDIR to a larger disk, or raise data.memory_budget."
        ) from error


class RaggedRows:
    """Sequences of unequal lengths, returned as padded arrays.

    Parameters
    ----------
    steps : Samples, shape (total steps, features)
        The steps of all sequences.
    starts, lengths : ndarray of int64, shape (N,)
        First step and number of steps of each sequence.
    longest : int
        Steps to which all sequences are padded with zeros at the end.
    order : ndarray of int64, shape (total steps,), optional
        Index of each step in `steps`; default: steps are in order.
    """

    def __init__(
        self,
        steps: Samples,
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        longest: int,
        order: NDArray[np.int64] | None = None,
    ) -> None:
        self._steps = steps
        self._starts = starts
        self._lengths = lengths
        self._order = order
        self.shape: tuple[int, ...] = (len(lengths), longest, steps.shape[1])
        self.dtype: np.dtype[Any] = steps.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        starts, lengths = self._starts[rows], self._lengths[rows]
        padded = np.zeros((len(lengths), *self.shape[1:]), self.dtype)
        flat = padded.reshape(-1, self.shape[2])
        for some in _blocks_of(lengths):
            # Source index and target index of each step.
            counts = lengths[some]
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            places = np.repeat(starts[some], counts) + within
            targets = np.repeat(np.arange(len(lengths))[some] * self.shape[1], counts) + within
            flat[targets] = self._steps[places if self._order is None else self._order[places]]
        return padded


def _blocks_of(lengths: NDArray[np.int64]) -> Iterator[slice]:
    """Yield slices of at least one sequence with about `BLOCK_STEPS` steps in total."""
    total, start = np.cumsum(lengths), 0
    while start < len(lengths):
        before = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + BLOCK_STEPS, "right")))
        yield slice(start, stop)
        start = stop


def mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, fortran: bool = False) -> MappedRows:
    """Map an array that begins at `offset` in a file."""
    return MappedRows(_memmap(path, dtype, shape, offset, "F" if fortran else "C"))


def _memmap(
    file: Path | BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int = 0, order: Literal["C", "F"] = "C"
) -> np.memmap[Any, Any]:
    try:
        return np.memmap(file, dtype, "r", offset, shape, order)  # type: ignore[call-overload, no-any-return]
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        # Some FUSE and network file systems support only private mappings. Nothing is written in either case.
        private = np.memmap(file, dtype, "c", offset, shape, order)  # type: ignore[call-overload]
        private.flags.writeable = False
        return private  # type: ignore[no-any-return]


def fits(shape: tuple[int, ...], dtype: np.dtype[Any], room: int) -> bool:
    """Return whether an array has at most `room` bytes."""
    return math.prod(shape) * dtype.itemsize <= room
