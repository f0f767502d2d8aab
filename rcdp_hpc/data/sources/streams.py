"""Unpacked streams that end where they hold more than they may."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import Any

from rcdp_hpc.errors import InputError

READ_BYTES = 2**16
# A decoder of xz holds its dictionary: 64 MiB with the strongest of the usual settings.
XZ_BYTES = 2**27


class LimitedStream:
    """A stream that is refused once more bytes than a limit are read from it.

    Parameters
    ----------
    path : Path
        For messages.
    stream : binary file
    most : int
        Bytes that it may hold.
    what : str
        What should be in it, for messages.
    """

    def __init__(self, path: Path, stream: Any, most: int, what: str) -> None:
        self._path, self._stream, self._most, self._what = path, stream, most, what
        self._read = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most this many."""
        data: bytes = self._stream.read(size)
        self._read += len(data)
        if self._read > self._most:
            raise InputError(
                f"{self._path}: refused: its {self._path.stat().st_size} bytes unpack to more than {self._most}, and "
                f"{self._what} has fewer. Fetch it again from its official address."
            )
        return data

    def __enter__(self) -> LimitedStream:
        return self

    def __exit__(self, *problem: object) -> None:
        return None


def open_xz(path: Path) -> io.BufferedReader:
    """Open a file packed by xz; one whose dictionary is larger than usual is damaged or not meant well."""
    return io.BufferedReader(_Xz(path.open("rb")))


class _Xz(io.RawIOBase):
    """Unpacks the streams of an xz file, one after the other, in bounded memory."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._unpacker = _unpacker()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._unpacker.eof:
                rest = self._unpacker.unused_data.lstrip(b"\0") or self._file.read(READ_BYTES).lstrip(b"\0")
                if not rest and not self._file.peek(1):
                    return 0
                self._unpacker = _unpacker()
            else:
                rest = self._file.read(READ_BYTES) if self._unpacker.needs_input else b""
                if self._unpacker.needs_input and not rest:
                    raise EOFError("it ends before its end is marked")
            data = self._unpacker.decompress(rest, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _unpacker() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_BYTES)
