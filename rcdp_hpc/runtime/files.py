"""Files that are either whole or not there: written under a temporary name, then moved into place."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from rcdp_hpc.runtime.json_text import read_json_file
from rcdp_hpc.runtime.os_errors import NO_ROOM, UNSUPPORTED, explain_os_error, os_errors_explained
from rcdp_hpc.runtime.owners import temporary_prefix

__all__ = [
    "NO_ROOM", "UNKNOWN_ROOM", "explain_os_error", "free_bytes", "keep_copy", "os_errors_explained", "overwrite_json",
    "read_json", "reserve", "set_size", "sync_folder", "write_at", "write_atomic", "write_json", "write_text",
]  # fmt: skip

FILL_BYTES = 2**20
UNKNOWN_ROOM = sys.maxsize
_LIBC = ctypes.CDLL(None, use_errno=True)

# There is no way to read the umask without setting it, which is safe only while there is one thread.
_UMASK = os.umask(0)
os.umask(_UMASK)


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk and move it into place.

    Raises
    ------
    StageFailedError, InputError
        If the disk is full or the folder cannot be written; an earlier file at `path` is left as it was.
    """
    with os_errors_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path.name), suffix=".tmp")
        try:
            _write_and_sync(handle, write)
            _set_mode(name)
            os.replace(name, path)
        except BaseException:
            # Whatever ended the writing matters more than a file that cannot be removed.
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


class _RawFile(io.FileIO):
    """A file that remembers why it could not be written.

    Libraries that write archives report a failed write by errors of their own, or by errors of what they try next.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


def _write_and_sync(handle: int, write: Callable[[BinaryIO], Any]) -> None:
    raw = _RawFile(handle, "wb")
    file = io.BufferedWriter(raw)
    try:
        write(cast(BinaryIO, file))
        file.flush()
        os.fsync(handle)
    except Exception as error:
        if raw.failure is not None and error is not raw.failure:
            raise raw.failure from error
        raise
    finally:
        # What a failed write left in the buffer cannot be written by closing, either.
        with contextlib.suppress(OSError) if raw.failure else contextlib.nullcontext():
            file.close()
        raw.close()


def _set_mode(name: str) -> None:
    """Let others read the file as the umask allows; file systems without permissions have nothing to set."""
    try:
        os.chmod(name, 0o666 & ~_UMASK)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def keep_copy(path: Path, copy: Path) -> None:
    """Keep a file under a second name, too, before another one takes its place.

    File systems without hard links (FAT, SMB, many FUSE file systems) keep it under the second name alone: until the
    other one is in place, readers of `path` must look there as well.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    copy.unlink(missing_ok=True)
    try:
        os.link(path, copy)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        os.replace(path, copy)


def free_bytes(folder: Path) -> int:
    """Return the room on the disk of a folder; `UNKNOWN_ROOM` if the file system reports no size at all.

    Raises
    ------
    OSError
        If there is no such folder, or it cannot be asked.
    """
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else UNKNOWN_ROOM


def reserve(file: BinaryIO, size: int) -> None:
    """Make an open file at least this long, with room on disk for all of it; content that is there stays.

    File systems that cannot reserve room (ext3, NFS before 4.2, FAT, many FUSE file systems) get zeros written to it.

    Parameters
    ----------
    file : file object
        Open for reading and writing, not for appending.
    size : int
        Bytes.

    Raises
    ------
    OSError
        If there is no room, or the disk fails.
    """
    handle = file.fileno()
    try:
        _allocate(handle, size)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        _fill(handle, size)


def _allocate(handle: int, size: int) -> None:
    """Reserve room by the system call alone.

    ``os.posix_fallocate`` hides that a file system lacks it: the C library then writes a byte to every 4 KiB, which is
    slow on network file systems, fails on files opened for writing only, and tells nothing of a quota.
    """
    call = getattr(_LIBC, "fallocate", None)
    number = errno.EOPNOTSUPP if call is None else errno.EINTR
    while call is not None and number == errno.EINTR:
        failed = call(handle, 0, ctypes.c_int64(0), ctypes.c_int64(size))
        number = ctypes.get_errno() if failed else 0
    if number:
        raise OSError(number, os.strerror(number))


def _fill(handle: int, size: int) -> None:
    """Write every byte of a file once, as it is or as zero: holes get room."""
    length = os.fstat(handle).st_size
    for start in range(0, size, FILL_BYTES):
        wanted = min(FILL_BYTES, size - start)
        held = os.pread(handle, wanted, start) if start < length else b""
        write_at(handle, held.ljust(wanted, b"\0"), start)
    # Network file systems report a full disk or quota no earlier than this.
    os.fsync(handle)


def set_size(handle: int, size: int) -> None:
    """Cut a file, or make it longer: by writing zeros if the file system leaves no holes.

    Raises
    ------
    OSError
        If there is no room, or the disk fails.
    """
    try:
        os.ftruncate(handle, size)
    except OSError as error:
        start = os.fstat(handle).st_size
        if error.errno not in UNSUPPORTED or size <= start:
            raise
        for place in range(start, size, FILL_BYTES):
            write_at(handle, bytes(min(FILL_BYTES, size - place)), place)


def write_at(handle: int, block: bytes | memoryview, start: int) -> None:
    """Write all of a block at a place in a file; parts that are written one by one count as one."""
    view = memoryview(block)
    while view:
        written = os.pwrite(handle, view, start)
        view, start = view[written:], start + written


def sync_folder(folder: Path) -> None:
    """Wait until the folder's entries are on disk, on file systems that know how to."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (*UNSUPPORTED, errno.EBADF):
            raise
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomic(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def overwrite_json(path: Path, value: Any) -> None:
    """Write a small JSON file over itself, not atomically: a full disk has no room for a second one beside it."""
    content = (json.dumps(value, indent=1) + "\n").encode()
    with os_errors_explained(path), open(path, "r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> Any:
    """Read a JSON file that this package wrote.

    Raises
    ------
    DataDamagedError
        If it cannot be read or is not valid JSON.
    """
    return read_json_file(path)
