"""Links from a report to those of its parts."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from rcdp_hpc.evaluation.report.html import Html, join, tag


def report_link(page: Path, report: Path, text: str) -> Html:
    """Return a relative link from a page to the report of a run, which survives a move; text if it is missing."""
    if not report.is_file():
        return join(text)
    target = os.path.relpath(report.absolute(), page.absolute().parent)
    return tag("a", text, href="/".join(quote(os.fsencode(step), safe="") for step in Path(target).parts))
