"""Decompressed streams with a limit for their bytes and their memory."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import Any

from rcdp_hpc.errors import InputError

READ_BYTES = 2**16
# Most memory of an xz decoder, which holds its dictionary: 64 MiB with the strongest usual preset.
XZ_BYTES = 2**27


class LimitedStream:
    """A stream that raises an `InputError` after a number of bytes.

    Parameters
    ----------
    path : Path
        For messages.
    stream : binary file
    most : int
        Most bytes.
    what : str
        Name of the expected content, for messages.
    """

    def __init__(self, path: Path, stream: Any, most: int, what: str) -> None:
        self._path = path
        self._stream = stream
        self._most = most
        self._what = what
        self._read = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`."""
        data: bytes = self._stream.read(size)
        self._read += len(data)
        if self._read > self._most:
            raise InputError(
                f"{self._path}: refused: its {self._path.stat().st_size} bytes unpack to more than {self._most}, but "
                f"{self._what} has fewer. Fetch it again from its official address."
            )
        return data

    def __enter__(self) -> LimitedStream:
        return self

    def __exit__(self, *problem: object) -> None:
        return None


def open_xz(path: Path) -> io.BufferedReader:
    """Open an xz file; a dictionary larger than usual is refused, because the file is damaged or malicious."""
    return io.BufferedReader(_Xz(path.open("rb")))


class _Xz(io.RawIOBase):
    """Decompresses the streams of an xz file in order, with bounded memory."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._decoder = _decoder()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data.lstrip(b"\0") or self._file.read(READ_BYTES).lstrip(b"\0")
                if not rest and not self._file.peek(1):
                    return 0
                self._decoder = _decoder()
            else:
                rest = self._file.read(READ_BYTES) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not rest:
                    raise EOFError("it ends before its end is marked")
            data = self._decoder.decompress(rest, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_BYTES)
