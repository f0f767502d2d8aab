"""Writing HDF5 files so that a full or failing disk raises an ordinary error.

If the HDF5 library cannot write a file to the end, it keeps the file open and crashes the process at exit. Therefore it
writes through a Python object that never fails: the object records the first error and ignores all later writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from rcdp_hpc.runtime.files import set_size, write_at
from rcdp_hpc.runtime.os_errors import UNSUPPORTED

Check = Callable[[], None]


@contextmanager
def writable_hdf5(path: Path) -> Iterator[tuple[h5py.File, Check]]:
    """Create an HDF5 file; at the end of the block its content is on disk.

    Parameters
    ----------
    path : Path
        An existing file is emptied. Existing content cannot be changed, because HDF5 cannot clean up after opening
        an unreadable file.

    Yields
    ------
    file : h5py.File
    check : callable
        Raises the first error so far, if there is one.

    Raises
    ------
    OSError
        If the file cannot be written; it has the system's error number and the file name.
    """
    with named(path), open(path, "w+b", buffering=0) as raw:
        target = _Target(raw)
        try:
            with h5py.File(target, "w") as file:
                yield file, target.check
        finally:
            # Raised instead of HDF5's own errors, which are consequences.
            target.check()
        os.fsync(raw.fileno())


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Add the file name to operating-system errors of the block."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


class _Target:
    """A file for HDF5 that records its first error instead of raising it."""

    def __init__(self, raw: BinaryIO) -> None:
        self._handle = raw.fileno()
        self._position = 0
        self._failure: OSError | None = None

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (os.fstat(self._handle).st_size if start is None else start)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        self.readinto(buffer)
        return bytes(buffer)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the file, with zeros after its end, as HDF5's own driver does."""
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        self._try(self._read_all, view)
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._try(self._write_all, view)
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        wanted = self._position if size is None else size
        self._try(set_size, self._handle, wanted)
        return wanted

    def flush(self) -> None:
        """Do nothing, because nothing is buffered."""

    def _read_all(self, view: memoryview) -> None:
        done = 0
        while done < len(view) and (part := os.pread(self._handle, len(view) - done, self._position + done)):
            view[done : done + len(part)] = part
            done += len(part)

    def _write_all(self, view: memoryview) -> None:
        try:
            write_at(self._handle, view, self._position)
        except OSError as error:
            # Some file systems cannot write after the end of a file, which would create a hole.
            if error.errno not in UNSUPPORTED or self._position <= os.fstat(self._handle).st_size:
                raise
            set_size(self._handle, self._position)
            write_at(self._handle, view, self._position)

    def _try(self, work: Callable[..., None], *arguments: Any) -> None:
        if self._failure is None:
            try:
                work(*arguments)
            except OSError as error:
                self._failure = error
