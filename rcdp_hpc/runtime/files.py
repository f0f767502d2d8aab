"""Atomic writing of files: under a temporary name, then renamed; and allocation of disk space."""

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

# The umask can be read only by setting it, which is safe as long as there is one thread.
_UMASK = os.umask(0)
os.umask(_UMASK)


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a temporary file in the same folder, flush it to disk and rename it to `path`.

    Parameters
    ----------
    path : Path
    write : callable
        Receives the open binary file and writes its content.

    Raises
    ------
    StageFailedError, InputError
        If the disk is full or the folder cannot be written. An existing file at `path` remains unchanged.
    """
    with os_errors_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path.name), suffix=".tmp")
        try:
            _write_and_sync(handle, write)
            _set_mode(name)
            os.replace(name, path)
        except BaseException:
            # The original error matters more than a file that cannot be removed.
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


class _RawFile(io.FileIO):
    """A file that keeps the error of a failed write.

    Libraries that write archives replace such an error with another one, or fail later at another operation.
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
        # After a failed write, closing the file fails as well, because the buffer cannot be written.
        with contextlib.suppress(OSError) if raw.failure else contextlib.nullcontext():
            file.close()
        raw.close()


def _set_mode(name: str) -> None:
    """Set the permissions that the umask allows, on file systems that have permissions."""
    try:
        os.chmod(name, 0o666 & ~_UMASK)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def keep_copy(path: Path, copy: Path) -> None:
    """Keep a file under a second name before it is replaced.

    On file systems without hard links (FAT, SMB, many FUSE file systems) the file is renamed: until the new file is in
    place, readers of `path` must also look for `copy`.

    Parameters
    ----------
    path, copy : Path
        The file and its second name, in the same folder.

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
    """Return the free bytes on the disk of a folder; `UNKNOWN_ROOM` if the file system does not report its size.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be queried.
    """
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else UNKNOWN_ROOM


def reserve(file: BinaryIO, size: int) -> None:
    """Extend an open file to at least `size` bytes and allocate disk space for all of it; existing content is kept.

    On file systems that cannot allocate space (ext3, NFS before 4.2, FAT, many FUSE file systems), zeros are written.

    Parameters
    ----------
    file : file object
        Open for reading and writing, not for appending.
    size : int
        Size in bytes.

    Raises
    ------
    OSError
        If there is not enough space, or the disk fails.
    """
    handle = file.fileno()
    try:
        _allocate(handle, size)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        _fill(handle, size)


def _allocate(handle: int, size: int) -> None:
    """Allocate space with the system call only.

    ``os.posix_fallocate`` hides that a file system does not support it: the C library then writes a byte to every
    4 KiB, which is slow on network file systems, fails on files opened only for writing, and does not detect a quota.
    """
    call = getattr(_LIBC, "fallocate", None)
    number = errno.EOPNOTSUPP if call is None else errno.EINTR
    while call is not None and number == errno.EINTR:
        failed = call(handle, 0, ctypes.c_int64(0), ctypes.c_int64(size))
        number = ctypes.get_errno() if failed else 0
    if number:
        raise OSError(number, os.strerror(number))


def _fill(handle: int, size: int) -> None:
    """Write every byte of a file once, with its present value or zero, so that holes get disk space."""
    length = os.fstat(handle).st_size
    for start in range(0, size, FILL_BYTES):
        count = min(FILL_BYTES, size - start)
        content = os.pread(handle, count, start) if start < length else b""
        write_at(handle, content.ljust(count, b"\0"), start)
    # Network file systems may report a full disk or quota only here.
    os.fsync(handle)


def set_size(handle: int, size: int) -> None:
    """Truncate or extend a file to `size` bytes; write zeros if the file system does not support holes.

    Raises
    ------
    OSError
        If there is not enough space, or the disk fails.
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
    """Write a complete block at the offset `start` of a file, with several system calls if necessary."""
    view = memoryview(block)
    while view:
        written = os.pwrite(handle, view, start)
        view, start = view[written:], start + written


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk, on file systems that support it."""
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
    """Overwrite a small JSON file in place, not atomically, because a full disk has no space for a second file."""
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
        If the file cannot be read or is not valid JSON.
    """
    return read_json_file(path)
