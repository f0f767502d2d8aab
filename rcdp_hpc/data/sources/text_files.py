"""The encoding of text files."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from rcdp_hpc.config.regular_files import refuse_special
from rcdp_hpc.data.sources.encodings import text_encoding
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.errors import InputError

BLOCK = 2**20
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Bytes that no text has.
BINARY = frozenset(range(9)) | frozenset(range(14, 27))


@contextmanager
def open_text(path: Path, setting: str, findings: Findings) -> Iterator[TextIO]:
    """Open a text file, unpacked if gzip packed it, and explain what goes wrong while it is read.

    Parameters
    ----------
    path : Path
    setting : str
        ``data.encoding``; empty: UTF-8 with or without a byte order mark, UTF-16 with one, otherwise Windows-1252 with
        a warning.
    findings : Findings
        Gets the warning.

    Raises
    ------
    InputError
        If the file is missing, not text, or not in the encoding that `setting` names.
    """
    refuse_special(path)
    try:
        packed = _is_packed(path)
        encoding = text_encoding(setting) if setting else _encoding_of(path, packed, findings)
        # Lines end as in any editor: Python's readers of codecs would end them at U+2028 and form feeds too.
        with io.TextIOWrapper(gzip.open(path) if packed else path.open("rb"), encoding=encoding) as reader:  # type: ignore[type-var]
            yield reader
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except UnicodeError:
        raise InputError(f"{path}: not a text file in the encoding {setting or 'UTF-8'}; set data.encoding.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path}: cut short or damaged: it cannot be unpacked. Fetch it again.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from None


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _encoding_of(path: Path, packed: bool, findings: Findings) -> str:
    """Return the encoding of a file, by its byte order mark or by decoding it once."""
    with gzip.open(path) if packed else path.open("rb") as file:
        start = file.read(4)
        if start.startswith(UTF16):
            return "utf-16"
        file.seek(0)
        wrong = _first_not_utf8(path, file)  # type: ignore[arg-type]
    if wrong is None:
        return "utf-8-sig"
    with gzip.open(path) if packed else path.open("rb") as file:
        decoder = codecs.getincrementaldecoder("cp1252")()
        try:
            while block := file.read(BLOCK):
                decoder.decode(block)
        except UnicodeDecodeError:
            raise InputError(f"{path}: not a text file: bytes that no usual encoding has. Set data.encoding.") from None
    findings.warnings.append(
        f"{path}: not UTF-8 (line {wrong}); read as Windows-1252. If names look wrong, set data.encoding."
    )
    return "cp1252"


def _first_not_utf8(path: Path, file: BinaryIO) -> int | None:
    """Return the first line, from 1, that is not UTF-8; None if all are."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 1
    wrong: int | None = None
    while block := file.read(BLOCK):
        if BINARY.intersection(block):
            raise InputError(f"{path}: not a text file: it holds bytes that text does not have.")
        if wrong is None:
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                wrong = lines + error.object[: error.start].count(b"\n")
        lines += block.count(b"\n")
    if wrong is None:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            wrong = lines
    return wrong
