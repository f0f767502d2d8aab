"""Sealed zip archives: the archive's comment is the SHA-256 of all bytes before it.

The digest is computed while the archive is written. The file is a valid zip archive for any reader, such as torch.load
and numpy.load.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.files import explain_os_error, write_atomic

_LABEL = b"rcdp sha256 "
_COMMENT_SIZE = len(_LABEL) + 2 * hashlib.sha256().digest_size
# An archive without a comment ends in the length of the comment, 0.
_NO_COMMENT = b"\0\0"
_LENGTH = struct.pack("<H", _COMMENT_SIZE)
_CHUNK = 2**20


class _SealingFile:
    """A binary file that computes the digest of its content, which must end with `_NO_COMMENT`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._withheld = b""

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) >= len(_NO_COMMENT):
            self._emit(self._withheld)
            self._emit(view[:-2])
            self._withheld = bytes(view[-2:])
        else:
            joined = self._withheld + bytes(view)
            self._emit(joined[:-2])
            self._withheld = joined[-2:]
        return len(view)

    def flush(self) -> None:
        self._file.flush()

    def seal(self) -> None:
        """Write the digest in place of the withheld bytes."""
        if self._withheld != _NO_COMMENT:
            raise ValueError("the archive to be sealed has a comment already")
        self._file.write(_LENGTH + _LABEL + self._digest.hexdigest().encode())

    def _emit(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._file.write(data)


def write_sealed_zip(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a zip archive with its digest, atomically; raises the same errors as `write_atomic`.

    Parameters
    ----------
    path : Path
    write : callable
        Receives a file object and writes an archive without a comment to it, in one pass (no ``seek``).
    """

    def sealed(file: BinaryIO) -> None:
        sealing = _SealingFile(file)
        write(sealing)
        sealing.seal()

    write_atomic(path, sealed)


@contextmanager
def open_sealed_zip(path: Path) -> Iterator[BinaryIO]:
    """Check the digest of a sealed archive and open it; no content is interpreted before the check.

    Members must be stored without compression, so that reading them needs no more memory than the file size.

    Raises
    ------
    DataDamagedError
        If the file is missing, truncated, altered, not an archive of this package, or the disk fails.
    InputError
        If the user has no permission to read it.
    """
    with _opened(path) as file:
        _check_digest(file, path)
        _check_members(file, path)
        file.seek(0)
        yield file


def has_seal(path: Path) -> bool:
    """Return whether a file ends with a digest, right or wrong. Files of other programs do not."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _COMMENT_SIZE))
        return file.read(len(_LABEL)) == _LABEL


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a named pipe would wait for its writer
            raise DataDamagedError(f"{path}: expected a file that this package wrote; this is not a regular file.")
        file = open(path, "rb")  # noqa: SIM115  (closed below)
    except FileNotFoundError:
        raise DataDamagedError(f"{path}: missing.") from None
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except OSError as error:
        raise DataDamagedError(str(explain_os_error(error, path, reading=True))) from None
    with file:
        yield file


def _check_digest(file: BinaryIO, path: Path) -> None:
    try:
        size = os.fstat(file.fileno()).st_size
        digest, left = hashlib.sha256(), size - _COMMENT_SIZE - len(_LENGTH)
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        ending = file.read()
    except OSError as error:
        raise DataDamagedError(str(explain_os_error(error, path, reading=True))) from None
    if left or not ending.startswith(_LENGTH + _LABEL):
        raise DataDamagedError(
            f"{path}: has no SHA-256 at its end ({size} bytes). It is truncated, altered, or was not written by this "
            "version of rcdp."
        )
    if ending != _LENGTH + _LABEL + digest.hexdigest().encode():
        raise DataDamagedError(f"{path}: its SHA-256 differs from the one recorded in it. It is damaged or altered.")


def _check_members(file: BinaryIO, path: Path) -> None:
    """Refuse compressed members: a small file could expand to any size."""
    try:
        file.seek(0)
        members = zipfile.ZipFile(file).infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile, struct.error) as error:
        raise DataDamagedError(f"{path}: not a zip archive ({error}).") from None
    size = os.fstat(file.fileno()).st_size
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > size:
        raise DataDamagedError(f"{path}: its members are compressed or overlap. rcdp does not write such files.")
