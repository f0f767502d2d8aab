"""Samples that lie in files and are read by their index: mapped arrays, spooled rows, sequences of unequal length."""

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
# What one touch of a mapped file may map: kernels keep files in pieces of up to so many bytes, and map them whole.
PIECE_BYTES = 2**21


class MappedRows:
    """Rows of a file that is mapped into memory, whose pages are given back after use.

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
        found = np.array(self._array[rows])
        # Pages of a mapped file count as this process's memory until they are given back.
        self._touched += max(found.nbytes, min(len(found) * PIECE_BYTES, self._array.nbytes))
        if self._touched > RELEASE_BYTES:
            self._touched = 0
            whole: mmap.mmap = self._array._mmap  # type: ignore[attr-defined]
            if hasattr(whole, "madvise"):
                whole.madvise(mmap.MADV_DONTNEED)
        return found


class Spool:
    """Rows that are added one block after the other, kept in memory while they fit and otherwise in a temporary file.

    The file lies in ``$TMPDIR``, has no name any more, and goes with the process.

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
        self.row_shape, self.dtype, self.room = row_shape, np.dtype(dtype), room
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
        with _room_explained():
            self._file.flush()
        with _room_explained():
            return MappedRows(_memmap(self._file, self.dtype, shape))

    def _write(self, block: NDArray[Any]) -> None:
        assert self._file is not None
        with _room_explained():
            self._file.write(block.data if block.size else b"")


@contextmanager
def _room_explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StageFailedError(
            f"{tempfile.gettempdir()}: a source beyond data.memory_budget is unpacked here, which failed "
            f"({error.strerror or error}). Make room, set TMPDIR to a larger disk, or raise data.memory_budget."
        ) from error


class RaggedRows:
    """Sequences of unequal lengths, handed out as padded arrays.

    Parameters
    ----------
    steps : Samples, shape (total steps, features)
        The steps of all sequences.
    starts, lengths : ndarray of int64, shape (N,)
        Where each sequence begins, and how many steps it has.
    longest : int
        Steps that all are padded to, with zeros at the end.
    order : ndarray of int64, shape (total steps,), optional
        Where each step lies in `steps`.
    """

    def __init__(
        self,
        steps: Samples,
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        longest: int,
        order: NDArray[np.int64] | None = None,
    ) -> None:
        self._steps, self._starts, self._lengths, self._order = steps, starts, lengths, order
        self.shape: tuple[int, ...] = (len(lengths), longest, steps.shape[1])
        self.dtype: np.dtype[Any] = steps.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        starts, lengths = self._starts[rows], self._lengths[rows]
        padded = np.zeros((len(lengths), *self.shape[1:]), self.dtype)
        flat = padded.reshape(-1, self.shape[2])
        for some in _blocks_of(lengths):
            # Where each step is among all, and where it comes to be.
            own = lengths[some]
            within = np.arange(own.sum()) - np.repeat(np.cumsum(own) - own, own)
            places = np.repeat(starts[some], own) + within
            into = np.repeat(np.arange(len(lengths))[some] * self.shape[1], own) + within
            flat[into] = self._steps[places if self._order is None else self._order[places]]
        return padded


def _blocks_of(lengths: NDArray[np.int64]) -> Iterator[slice]:
    """Yield slices of sequences that have about `BLOCK_STEPS` steps together, one at least."""
    total, start = np.cumsum(lengths), 0
    while start < len(lengths):
        before = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + BLOCK_STEPS, "right")))
        yield slice(start, stop)
        start = stop


def mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, fortran: bool = False) -> MappedRows:
    """Map an array that lies in a file from `offset`."""
    return MappedRows(_memmap(path, dtype, shape, offset, "F" if fortran else "C"))


def _memmap(
    file: Path | BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int = 0, order: Literal["C", "F"] = "C"
) -> np.memmap[Any, Any]:
    try:
        return np.memmap(file, dtype, "r", offset, shape, order)  # type: ignore[call-overload, no-any-return]
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        # Some FUSE and network file systems map a file only for this process alone; nothing is written either way.
        private = np.memmap(file, dtype, "c", offset, shape, order)  # type: ignore[call-overload]
        private.flags.writeable = False
        return private  # type: ignore[no-any-return]


def fits(shape: tuple[int, ...], dtype: np.dtype[Any], room: int) -> bool:
    """Tell whether an array may be held in memory."""
    return math.prod(shape) * dtype.itemsize <= room
