"""HTML from Python values. Text is escaped unless it is `Html`, so that no name can become markup."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from rcdp_hpc.runtime.text import plain_line

# Elements without content. SVG needs the slash at their end, HTML ignores it.
VOID = ("br", "img", "meta", "line", "rect", "circle", "path")
NOTHING = "-"
# A code of more characters gets some width in a narrow table.
LONG = 40


class Html(str):
    """Markup, which is not escaped again."""


def escape(value: Any) -> Html:
    """Return a value as text of a page: control characters written as Python escapes, markup characters escaped."""
    return value if isinstance(value, Html) else Html(html.escape(plain_line(value)))


def join(*parts: Any) -> Html:
    """Return parts one after another, those that are not `Html` escaped."""
    return Html("".join(map(escape, parts)))


def tag(name: str, /, *content: Any, **attributes: Any) -> Html:
    """Return an element.

    Parameters
    ----------
    name : str
    *content
        Text or `Html`.
    **attributes
        Underscores stand for hyphens, and one at the end is removed (``class_``). None leaves an attribute out.
    """
    texts = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not content:
        return Html(f"<{name}{texts}/>")
    return Html(f"<{name}{texts}>{join(*content)}</{name}>")


def paragraph(*content: Any, class_: str | None = None) -> Html:
    """Return a paragraph."""
    return tag("p", *content, class_=class_)


def bullets(items: Iterable[Any]) -> Html:
    """Return a list; empty if there are no items."""
    entries = [tag("li", item) for item in items]
    return tag("ul", *entries) if entries else Html("")


def code(text: Any) -> Html:
    """Return a command, key or path."""
    return tag("code", text, class_="long" if len(str(text)) > LONG else None)


def folded(summary: Any, *content: Any) -> Html:
    """Return content that the reader unfolds."""
    return tag("details", tag("summary", summary), *content)


def table(
    caption: Any,
    header: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    words: Sequence[int] = (),
    tall: bool = False,
) -> Html:
    """Return a table with a caption. The first cell of each row is its header.

    Parameters
    ----------
    caption : object
    header : sequence
        Titles of the columns.
    rows : iterable of sequence
        Cells; None and numbers that are not finite are shown as "-".
    words : sequence of int
        Columns of text, aligned to the left. The others have numbers.
    tall : bool
        Limit the height on screens; the rows scroll.
    """
    kinds = [None if place == 0 or place in words else "n" for place in range(len(header))]
    titles = [tag("th", title, scope="col", class_=kind) for title, kind in zip(header, kinds, strict=True)]
    body = []
    for first, *others in rows:
        cells = [tag("td", cell(value), class_=kind) for value, kind in zip(others, kinds[1:], strict=True)]
        body.append(tag("tr", tag("th", cell(first), scope="row"), *cells))
    content = tag("table", tag("caption", tag("span", caption)), tag("thead", tag("tr", *titles)), tag("tbody", *body))
    # A region that can be reached by keyboard, since it scrolls on narrow screens.
    kind = "scroll tall" if tall else "scroll"
    return tag("div", content, class_=kind, tabindex="0", role="region", aria_label=_plain(caption))


def _plain(caption: Any) -> str:
    return "Table" if isinstance(caption, Html) else str(caption)


def cell(value: Any) -> Any:
    """Return the content of a cell: "-" for None and numbers that are not finite, integers with separators."""
    if value is None or (isinstance(value, Real) and not math.isfinite(value)):
        return NOTHING
    if isinstance(value, bool | Html | str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return number(value) if isinstance(value, Real) else value


def number(value: Any, digits: int = 4) -> str:
    """Return a number to so many significant digits; "-" if it is missing or not finite."""
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


def percent(share: Any, digits: int = 1) -> str:
    """Return a share as a percentage; "-" if it is missing or not finite."""
    if not isinstance(share, Real) or isinstance(share, bool) or not math.isfinite(share):
        return NOTHING
    return f"{100 * float(share):.{digits}f} %"
