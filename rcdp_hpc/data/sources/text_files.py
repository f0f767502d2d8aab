"""Open text files: compression, encoding, and a limit for the length of lines."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.regular_files import refuse_special
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.csv_text import refuse_mixed
from rcdp_hpc.data.sources.encodings import text_encoding
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.os_errors import unreadable_error

BLOCK = 2**20
# Lines with more characters are checked. A line is held several times, and each value in it is a Python object.
LONG_LINE = 2**16
LETTER_BYTES, CELL_BYTES = 8, 128
SEPARATORS = ",:;\t "
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Bytes that do not occur in text.
BINARY = bytes([*range(9), *range(14, 27)])


class LimitedText:
    """The lines of a text file; a line that needs too much memory to be split into values is refused.

    Parameters
    ----------
    path : Path
        For messages.
    text : text file
    budget : Budget
    """

    def __init__(self, path: Path, text: TextIO, budget: Budget) -> None:
        self._path = path
        self._text = text
        self._budget = budget
        self._most = budget.work // LETTER_BYTES

    def __iter__(self) -> Iterator[str]:
        """Yield the lines with their line ends."""
        number = 0
        while line := self._text.readline(self._most + 1):
            number += 1
            if len(line) > LONG_LINE:
                self._refuse_long(number, line)
            yield line

    def read(self) -> str:
        """Return the rest of the text."""
        text = self._text.read(self._most + 1)
        if len(text) > LONG_LINE:
            self._refuse("it is read in one piece", "make it smaller", text)
        return text

    def _refuse_long(self, number: int, line: str) -> None:
        cut = "or more " if len(line) > self._most else ""
        self._refuse(
            f"line {number} of {len(line)} characters {cut}is parsed in one piece", "split it into shorter lines", line
        )

    def _refuse(self, what: str, advice: str, text: str) -> None:
        cells = sum(text.count(sign) for sign in SEPARATORS)
        needed = LETTER_BYTES * len(text) + CELL_BYTES * cells
        self._budget.refuse_work(f"{self._path}: {what}", needed, advice)


@contextmanager
def open_text(path: Path, setting: str, findings: Findings, budget: Budget | None = None) -> Iterator[LimitedText]:
    """Open a text file, decompressed if gzip compressed it; errors while it is read become an `InputError`.

    Parameters
    ----------
    path : Path
    setting : str
        ``data.encoding``; empty: UTF-8 with or without a byte order mark, UTF-16 with one, otherwise Windows-1252 with
        a warning.
    findings : Findings
        Receives the warning.
    budget : Budget, optional
        Limits the length of a line; default: the default of ``data.memory_budget``.

    Raises
    ------
    InputError
        If the file is missing, not text, not in the encoding that `setting` names, or has a line that is too long.
    """
    refuse_special(path)
    try:
        packed = _is_packed(path)
        encoding = text_encoding(setting) if setting else _encoding_of(path, packed, findings)
        # io.TextIOWrapper ends lines as editors do; the readers of codecs also end them at U+2028 and form feeds.
        with io.TextIOWrapper(gzip.open(path) if packed else path.open("rb"), encoding=encoding) as text:  # type: ignore[type-var]
            yield LimitedText(path, text, budget or Budget.of(DataSection()))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except UnicodeError:
        raise InputError(f"{path}: not a text file in the encoding {setting or 'UTF-8'}; set data.encoding.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path}: cut short or damaged: it cannot be unpacked. Fetch it again.") from None
    except OSError as error:
        raise unreadable_error(error, path) from None


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
    refuse_mixed(path, "gzip" if packed else None)
    with gzip.open(path) if packed else path.open("rb") as file:
        decoder = codecs.getincrementaldecoder("cp1252")()
        try:
            while block := file.read(BLOCK):
                decoder.decode(block)
        except UnicodeDecodeError:
            raise InputError(
                f"{path}: not a text file: its bytes are invalid in the usual encodings. Set data.encoding."
            ) from None
    findings.warnings.append(
        f"{path}: not UTF-8 (line {wrong}); read as Windows-1252. If names look wrong, set data.encoding."
    )
    return "cp1252"


def _first_not_utf8(path: Path, file: BinaryIO) -> int | None:
    """Return the number of the first line that is not UTF-8, from 1; None if all lines are UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    lines = 1
    wrong: int | None = None
    while block := file.read(BLOCK):
        if len(block.translate(None, BINARY)) < len(block):
            raise InputError(f"{path}: not a text file: it holds bytes that do not occur in text.")
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
