"""The parts of the experiment's document, which are written as Markdown and as one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rcdp_hpc.evaluation.report.html import Html, bullets, paragraph, table, tag
from rcdp_hpc.runtime.text import plain_line


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str

    def markdown(self) -> str:
        """Return the part in Markdown."""
        return escaped(self.text)

    def html(self) -> Html:
        """Return the part in HTML."""
        return paragraph(self.text)


@dataclass(frozen=True)
class Notes:
    """A list; nothing without items."""

    items: Sequence[str]

    def markdown(self) -> str:
        """Return the part in Markdown."""
        return "\n".join(f"- {escaped(item)}" for item in self.items)

    def html(self) -> Html:
        """Return the part in HTML."""
        return bullets(self.items)


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes
    ----------
    caption : str
    header : sequence of str
    rows : sequence of sequence of str
    words : sequence of int
        Columns of text; the first column always is, and the others have numbers.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = ()

    def markdown(self) -> str:
        """Return the part in Markdown."""
        rule = ["---" if place == 0 or place in self.words else "---:" for place in range(len(self.header))]
        lines = ["| " + " | ".join(map(escaped, cells)) + " |" for cells in (self.header, rule, *self.rows)]
        return f"{escaped(self.caption)}:\n\n" + "\n".join(lines)

    def html(self) -> Html:
        """Return the part in HTML."""
        return table(self.caption, self.header, self.rows, self.words)


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes
    ----------
    folder : Path
        Folder of the experiment.
    name : str
        File of the picture within the folder.
    meaning : str
        What it shows, for readers who do not see it.
    """

    folder: Path
    name: str
    meaning: str

    def markdown(self) -> str:
        """Return the part in Markdown."""
        return f"![{escaped(self.meaning)}]({self.name})"

    def html(self) -> Html:
        """Return the part in HTML, with the picture in it."""
        content = base64.b64encode((self.folder / self.name).read_bytes()).decode()
        return tag("figure", tag("img", src=f"data:image/png;base64,{content}", alt=self.meaning), class_="wide")


Part = Words | Notes | Grid | Picture


def escaped(text: str) -> str:
    """Return text on one line without the characters that Markdown reads as markup."""
    return plain_line(text).replace("|", "\\|").replace("<", "&lt;")
