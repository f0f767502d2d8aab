r"""Escaping, wrapping and shortening of names and messages for terminals and pictures.

Names of classes, columns, keys and files may contain any character: escape sequences that move the cursor or change the
clipboard, line breaks that imitate a message, marks that change the direction of writing, invisible letters. Where
people read them, such characters are written as Python escapes (``\x1b``, ``\u202e``). Files for programs (JSON, CSV,
TOML) contain the exact names.
"""

from __future__ import annotations

import shlex
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rcdp_hpc.errors import RcdpError

COLUMNS = 80

# Control and format characters, lone surrogates, separators of lines and paragraphs.
_ESCAPED = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
# Invisible letters and marks: Hangul and Khmer fillers, the grapheme joiner, Mongolian and rare selectors.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0")
_SELECTORS = range(0xE0000, 0xE1000)
# Zero-width non-joiner and joiner, which Persian, Indic scripts and emoji need.
_JOINERS = "\u200c\u200d"
_VIRAMA = 9

Explained = TypeVar("Explained", bound=RcdpError)


class Lines(str):
    """A message with intended line breaks, whose lines are escaped like any other text."""


def plain_line(text: object) -> str:
    r"""Return a text on one line, with control characters and invisible characters escaped.

    Parameters
    ----------
    text : object
        Converted with ``str``.

    Examples
    --------
    >>> plain_line("cat" + chr(27) + "[2J" + chr(10) + "dog")
    'cat\\x1b[2J\\ndog'
    """
    text = str(text)
    if text.isprintable() and text.isascii():
        return text
    return "".join(
        _written_out(character) if _is_unsafe(text, place) else character for place, character in enumerate(text)
    )


def plain_lines(text: object) -> str:
    """Return a text escaped like `plain_line`, except for line breaks and tabs."""
    text = str(text)
    if text.isprintable() and text.isascii():
        return text
    return "\n".join("\t".join(map(plain_line, line.split("\t"))) for line in text.split("\n"))


def message_lines(text: object) -> str:
    """Return `plain_lines` with all lines but the first indented, so that no line looks like a separate message."""
    first, *others = plain_lines(text).split("\n")
    return "\n".join([first, *(line if line.startswith("  ") or not line else f"  {line}" for line in others)])


def join_lines(lines: Iterable[str]) -> str:
    """Join lines to one text, each escaped by `plain_line`."""
    return "\n".join(map(plain_line, lines))


def on_one_line(text: str) -> str:
    """Return the output of another program on one line, with semicolons between its lines."""
    return "; ".join(filter(None, map(str.strip, text.splitlines())))


def multiline_error(kind: type[Explained], lines: Sequence[str]) -> Explained:
    """Return an error whose message has several lines, each escaped by `plain_line`."""
    error = kind(join_lines(lines))
    error.lines = True
    return error


def shell_word(text: object) -> str:
    r"""Return a word quoted for a shell, in bash's form ``$'...'`` if it has characters that need escaping.

    Examples
    --------
    >>> shell_word("a b"), shell_word("a" + chr(27))
    ("'a b'", "$'a\\x1b'")
    """
    text = str(text)
    if plain_line(text) == text:
        return shlex.quote(text)
    raw = text.encode("utf-8", "surrogateescape")
    return "$'" + "".join(_shell_byte(byte) for byte in raw) + "'"


def _shell_byte(byte: int) -> str:
    character = chr(byte)
    if character in "\\'":
        return "\\" + character
    return character if 32 <= byte < 127 else f"\\x{byte:02x}"


def _is_unsafe(text: str, place: int) -> bool:
    character = text[place]
    if character in _JOINERS:
        return not _joins(text[place - 1 : place], text[place + 1 : place + 2])
    return unicodedata.category(character) in _ESCAPED or character in _INVISIBLE or ord(character) in _SELECTORS


def _joins(before: str, after: str) -> bool:
    """Return whether a joiner between two characters has a meaning, as in Persian, Hindi or combined emoji."""
    if not before or not after:
        return False
    arabic = unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL"
    emoji = unicodedata.category(after) == "So" and (unicodedata.category(before) in ("So", "Sk") or before == "\ufe0f")
    return arabic or emoji or unicodedata.combining(before) == _VIRAMA


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


def display_width(text: str) -> int:
    """Return the width of a text in terminal columns: two for wide characters, none for combining ones."""
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def plain_name(name: str) -> str:
    """Return a name escaped by `plain_line`, in quotes if it is invisible."""
    plain = plain_line(name)
    visible = any(unicodedata.category(character) not in ("Zs", "Mn") for character in plain)
    return plain if visible else f"'{plain}'"


def shorten(text: str, columns: int, mark: str = "...") -> str:
    """Return a text of at most this many columns; `mark` replaces a part in its middle."""
    if display_width(text) <= columns:
        return text
    room = max(columns - display_width(mark), 0)
    # Similar names differ at their ends more often than in the middle.
    start, end = _within(text, room - room // 2), _within(text[::-1], room // 2)[::-1]
    return start + mark + end


def _within(text: str, columns: int) -> str:
    taken = 0
    for place, character in enumerate(text):
        taken += _width(character)
        if taken > columns:
            return text[:place]
    return text


def pad(text: str, columns: int) -> str:
    """Return a text of exactly this many columns, shortened or padded with blanks."""
    short = shorten(text, columns)
    return short + " " * (columns - display_width(short))


def wrap_message(text: str, columns: int) -> str:
    """Return a message wrapped to lines of at most this many columns; longer words, such as paths, are not split."""
    return "\n".join(
        textwrap.fill(
            line,
            max(columns, 20),
            subsequent_indent=" " * (len(line) - len(line.lstrip()) + 2),
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
            drop_whitespace=True,
        )
        if len(line) > columns
        else line
        for line in text.splitlines()
    )


def wrap_items(title: str, parts: Sequence[str], columns: int = COLUMNS) -> list[str]:
    """Return a title and parts, separated by commas, as lines of at most this many columns."""
    lines, line = [], title
    for place, part in enumerate(parts):
        piece = part + (", " if place < len(parts) - 1 else "")
        if display_width(line + piece.rstrip()) > columns and line.strip():
            lines.append(line.rstrip())
            line = "  "
        line += piece
    return [*lines, line.rstrip()]
