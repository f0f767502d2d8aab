"""A checker of HTML pages of reports: well formed, self-contained, accessible."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = ("meta", "br")
LOADING = ("src", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href")
FORBIDDEN = ("script", "iframe", "object", "embed", "link", "base", "form", "img")


@dataclass
class Page(HTMLParser):
    """The content of a page; `faults` names what a report must not have.

    Attributes
    ----------
    faults : list of str
    text : str
        All text, without markup.
    names : list of str
        Accessible names of the pictures.
    links : list of str
        Targets of links outside the page.
    rows : list of list of str
        Cells of all rows of all tables.
    """

    path: Path
    faults: list[str] = field(default_factory=list)
    text: str = ""
    names: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []
        self._ids: set[str] = set()
        self._anchors: set[str] = set()
        self._captions = self._tables = 0
        content = self.path.read_bytes()
        self.size = len(content)
        self.source = content.decode("utf-8")
        self.feed(self.source)
        self.close()
        if self._open:
            self.faults.append(f"not closed: {self._open}")
        self.faults += [f"no target of #{anchor}" for anchor in self._anchors - self._ids]
        if self._captions != self._tables:
            self.faults.append(f"{self._tables} tables, {self._captions} captions")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._check(tag, dict(attrs))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._check(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()} closes another element")

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            self.faults += [f"the style has {word}" for word in ("url(", "@import", "http") if word in data]
            return
        self.text += data
        if self._open and {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    def _check(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag in FORBIDDEN:
            self.faults.append(f"<{tag}> at {self.getpos()}")
        self.faults += [f"{name} of <{tag}>" for name in attributes if name in LOADING or name.startswith("on")]
        if tag == "svg" and attributes.get("aria-hidden") != "true":
            name = attributes.get("aria-label") or ""
            self.names.append(name)
            if attributes.get("role") != "img" or len(name) < 15:
                self.faults.append(f"a picture without a name at {self.getpos()}: {name!r}")
        if tag == "th" and attributes.get("scope") not in ("row", "col"):
            self.faults.append(f"<th> without a scope at {self.getpos()}")
        if tag == "a":
            self._link(attributes.get("href") or "")
        identifier = attributes.get("id")
        if identifier is not None:
            self.faults += [f"id {identifier} twice"] if identifier in self._ids else []
            self._ids.add(identifier)
        self._tables += tag == "table"
        self._captions += tag == "caption"

    def _link(self, target: str) -> None:
        if target.startswith("#"):
            self._anchors.add(target[1:])
            return
        self.links.append(target)
        if ":" in target or target.startswith("/"):
            self.faults.append(f"a link to {target}")

    def cells(self, first: str) -> list[str]:
        """Return the other cells of the first row that begins with a text."""
        return next(row[1:] for row in self.rows if row and row[0] == first)
