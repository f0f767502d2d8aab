"""Names and messages as they fit a terminal or a picture."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence

COLUMNS = 80


def display_width(text: str) -> int:
    """Return the columns that a text takes on a terminal: wide characters take two, combining ones none."""
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def plain_name(name: str) -> str:
    """Return a name on one line, with control characters escaped, and in quotes if it looks empty."""
    plain = "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        else character
        for character in name
    )
    visible = any(unicodedata.category(character) not in ("Zs", "Cf", "Mn") for character in plain)
    return plain if visible else f"'{plain}'"


def shorten(text: str, columns: int, mark: str = "...") -> str:
    """Return a text of at most this many columns; what is cut out of its middle is replaced by `mark`."""
    if display_width(text) <= columns:
        return text
    room = max(columns - display_width(mark), 0)
    # Names of a kind differ at their ends more often than in the middle.
    start, end = _within(text, room - room // 2), _within(text[::-1], room // 2)[::-1]
    return start + mark + end


def _within(text: str, columns: int) -> str:
    taken = 0
    for place, character in enumerate(text):
        taken += _width(character)
        if taken > columns:
            return text[:place]
    return text


def fitted(text: str, columns: int) -> str:
    """Return a text cut to this many columns, or filled up with blanks."""
    short = shorten(text, columns)
    return short + " " * (columns - display_width(short))


def wrapped(text: str, columns: int) -> str:
    """Return a message with lines of at most this many columns, except for words that are longer, as paths are."""
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


def packed(title: str, parts: Sequence[str], columns: int = COLUMNS) -> list[str]:
    """Return parts after a title, separated by commas, in lines of at most this many columns."""
    lines, line = [], title
    for place, part in enumerate(parts):
        piece = part + (", " if place < len(parts) - 1 else "")
        if display_width(line + piece.rstrip()) > columns and line.strip():
            lines.append(line.rstrip())
            line = "  "
        line += piece
    return [*lines, line.rstrip()]
