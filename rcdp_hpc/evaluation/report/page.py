"""The page of a report: head, contents, sections, and the style sheet within the file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from rcdp_hpc.errors import RcdpError
from rcdp_hpc.evaluation.report.html import Html, escape, paragraph, tag

log = logging.getLogger(__name__)

# Nothing is loaded and no script runs, whatever a page contains.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes
    ----------
    key : str
        Its anchor.
    title : str
    write : callable
        Returns its content as `Html`; None leaves the section out.
    """

    key: str
    title: str
    write: Callable[[], Html | None]


def render(title: str, note: Any, sections: Sequence[Section]) -> str:
    """Return a complete page.

    Parameters
    ----------
    title : str
    note : object
        Text below the title.
    sections : sequence of Section
        A section that raises an error is replaced by its reason, and the others are complete.
    """
    bodies = {section: body for section in sections if (body := _content(section)) is not None}
    links = [tag("li", tag("a", section.title, href=f"#{section.key}")) for section in bodies]
    parts = [
        tag("section", tag("h2", section.title, id=f"{section.key}-title"), body, id=section.key,
            aria_labelledby=f"{section.key}-title")
        for section, body in bodies.items()
    ]  # fmt: skip
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(style())),
    )
    header = tag("header", tag("h1", title), paragraph(note, class_="note"))
    body = tag("body", header, tag("nav", tag("ul", *links), aria_label="Contents"), tag("main", *parts))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _content(section: Section) -> Html | None:
    try:
        return section.write()
    except Exception as error:  # records of other versions may have any form; the other sections are complete
        reason = str(error) if isinstance(error, RcdpError) else f"{type(error).__name__}: {error}"
        log.warning("the section %r of the report is left out: %s", section.title, reason[:300])
        note = "This section could not be written. The files may be of another version of rcdp_hpc."
        return paragraph(f"{note} ({reason[:300]})", class_="problem")


def style() -> str:
    """Return the style sheet."""
    return (resources.files("rcdp_hpc.evaluation.report") / "style.css").read_text(encoding="utf-8")


def problem(text: Any) -> Html:
    """Return a paragraph about something that is missing or damaged."""
    return tag("p", escape(text), class_="problem")
