"""Inspect the bytes of a text file: its compression, its encoding, and the length of its lines."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.encodings import text_encoding
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 2**20
# Bytes of memory per byte of the longest line: the first lines are split into values, which are Python objects.
LINE_COPIES = 128
FALLBACK = "cp1252"
# In Windows-1252 the first byte is one of Ã Ä Å Ð Ñ Î Ï, and the second is a symbol, not a letter.
_UTF8_LETTER = re.compile(rb"[\xc3-\xc5\xce-\xd1][\x80-\x89\x8b\x8d\x8f-\x99\x9b\x9d\xa0-\xbf]")
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
NOT_TEXT = {
    b"PK\x03\x04": "an Excel workbook or a zip archive; save the table as CSV, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the table as CSV",
    b"\xfd7zXZ": "compressed with xz; unpack it, or compress it with gzip",
    b"\x89HDF": "an HDF5 file; set data.source = 'hdf5'",
    b"ARROW1": "an Arrow or Feather file; save the table as parquet",
    b"SQLite": "an SQLite data base; save the table as CSV",
}


class _NotTextError(InputError):
    """The content is not text in any encoding."""


@dataclass(frozen=True)
class TextFile:
    """A text file that can be read as UTF-8.

    Attributes
    ----------
    path : Path
    encoding : str
        Python's name of the encoding.
    compression : str or None
        Pyarrow's name of the compression; None if the file is not compressed.
    longest_line : int
        Bytes of the longest line, in UTF-8.
    lines : int
        Number of lines.
    longest_number : int
        Number of the longest line, from 1.
    open_quote : bool
        Whether the number of quotation marks is odd, so that a quotation mark is not closed or is part of a text.
    """

    path: Path
    encoding: str
    compression: str | None
    longest_line: int = 0
    lines: int = 0
    longest_number: int = 0
    open_quote: bool = False

    def open(self) -> pa.NativeFile:
        """Open the file as a stream of UTF-8 without a byte order mark."""
        import pyarrow as pa

        stream = pa.input_stream(str(self.path), compression=self.compression)
        if self.encoding not in ("utf-8", "utf-8-sig"):
            return pa.transcoding_input_stream(stream, self.encoding, "utf-8")
        if self.encoding == "utf-8-sig":
            stream.read(len(codecs.BOM_UTF8))
        return stream


def inspect_text(path: Path, encoding: str, findings: Findings, budget: Budget) -> TextFile:
    """Read a file once, to determine its encoding and its longest line.

    Parameters
    ----------
    path : Path
        The file, plain or compressed (gzip, bzip2, Zstandard).
    encoding : str
        ``data.encoding``; empty: the encoding of the byte order mark, otherwise UTF-8, otherwise Windows-1252 with a
        warning.
    findings : Findings
        Receives the warning.
    budget : Budget
        Limits the length of a line.

    Raises
    ------
    InputError
        If the file is not text, its bytes are invalid in the encoding, or a line is too long.
    """
    file = _inspected(path, encoding, findings, budget.work // LINE_COPIES)
    budget.refuse_work(
        f"{path}: line {file.longest_number} of {file.longest_line} bytes or more is parsed in one piece",
        LINE_COPIES * file.longest_line,
        "split it into shorter lines",
    )
    return file


def _inspected(path: Path, encoding: str, findings: Findings, most: int) -> TextFile:
    """Read a file up to its end, or up to the first line with more than `most` bytes."""
    import pyarrow as pa

    with path.open("rb") as file:
        compression = next((name for magic, name in COMPRESSIONS.items() if file.peek(8).startswith(magic)), None)
    with pa.input_stream(str(path), compression=compression) as stream:
        start = stream.read(8)
    for magic, what in NOT_TEXT.items():
        if start.startswith(magic):
            raise InputError(f"{path}: not a text file but {what}.")
    marked = next((name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), None)
    if encoding:
        return _scan(path, _with_mark(encoding, marked), compression, most)
    try:
        return _scan(path, marked or "utf-8", compression, most)
    except _NotTextError:
        raise
    except InputError:
        if marked:
            raise
    refuse_mixed(path, compression)
    try:
        text = _scan(path, FALLBACK, compression, most)
    except InputError:
        raise InputError(
            f"{path}: neither UTF-8 nor Windows-1252; name its encoding in data.encoding, as in 'shift_jis'."
        ) from None
    findings.warnings.append(f"{path}: not UTF-8, read as Windows-1252; set data.encoding if characters are wrong")
    return text


def refuse_mixed(path: Path, compression: str | None) -> None:
    """Raise an `InputError` if a file that is not UTF-8 contains characters in UTF-8, which would be read wrongly.

    The pairs of bytes that it searches for do not occur in words of Windows-1252.
    """
    import pyarrow as pa

    last, lines = b"", 1
    with pa.input_stream(str(path), compression=compression) as stream:
        while data := last + stream.read(CHUNK):
            if data == last:
                return
            match = _UTF8_LETTER.search(data)
            if match:
                line = lines + data.count(b"\n", 0, match.start())
                raise InputError(
                    f"{path}: mixed encodings: line {line} is UTF-8, and others are not. Convert the file to UTF-8, or "
                    "set data.encoding to read all of it in that encoding."
                )
            lines, last = lines + data[:-1].count(b"\n"), data[-1:]


def _with_mark(encoding: str, marked: str | None) -> str:
    name = text_encoding(encoding)
    if name == "utf-8" and marked == "utf-8-sig":
        return marked
    return name


def _scan(path: Path, encoding: str, compression: str | None, most: int) -> TextFile:
    """Decode a file up to its end, or up to the first line with more than `most` bytes.

    Raises
    ------
    InputError
        If the bytes are invalid in the encoding.
    """
    import pyarrow as pa

    decoder = codecs.getincrementaldecoder(encoding)()
    lines = longest = pending = longest_number = quotes = 0
    with pa.input_stream(str(path), compression=compression) as stream:
        try:
            while data := stream.read(CHUNK):
                text = decoder.decode(data)
                if "\0" in text:
                    raise _NotTextError(
                        f"{path}: not a text file (it has zero bytes near line {lines + 1}). If it is UTF-16 without a "
                        "byte order mark, set data.encoding = 'utf-16-le'."
                    )
                quotes += text.count('"')
                first, *rest = _lines(text, encoding, data)
                pending += first
                for number, length in enumerate(rest, lines + 1):
                    if pending > longest:
                        longest, longest_number = pending, number
                    pending = length
                lines += len(rest)
                if max(longest, pending) > most:
                    break
            if not data:
                decoder.decode(b"", final=True)
        except UnicodeError as error:
            reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
            raise InputError(
                f"{path}: not {encoding} near line {lines + 1} ({reason}); name its encoding in data.encoding."
            ) from None
    if pending > longest:
        longest, longest_number = pending, lines + 1
    return TextFile(path, encoding, compression, longest, lines, longest_number, quotes % 2 == 1)


def _lines(text: str, encoding: str, data: bytes) -> list[int]:
    """Return the number of UTF-8 bytes of each line in a piece of text."""
    raw: Any = data if encoding in ("utf-8", "utf-8-sig", FALLBACK) else text.encode()
    pieces = raw.replace(b"\r", b"\n").split(b"\n")
    # A character of Windows-1252 needs up to three bytes in UTF-8.
    return [len(piece) * (3 if encoding == FALLBACK else 1) for piece in pieces]
