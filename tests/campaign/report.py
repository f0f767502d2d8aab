"""The table of a campaign, and the list of its faults."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from campaign.judge import FAULTS, Verdict
from campaign.trial import Outcome

COLUMNS = tuple(verdict for verdict in Verdict if verdict is not Verdict.BROKEN)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a table with a line for each kind and for the sum."""
    kinds = list(dict.fromkeys(sorted(outcome.kind for outcome in outcomes)))
    head = ["kind", "trials", "survived", "reported", "unclear", "silent", "tracebacks", "hangs"]
    rows = [_row(kind, [outcome for outcome in outcomes if outcome.kind == kind]) for kind in kinds]
    rows.append(_row("all", outcomes))
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in [head, *rows]
    )


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    counts = Counter(outcome.verdict for outcome in outcomes)
    return [name, str(len(outcomes)), *(str(counts[verdict]) for verdict in COLUMNS)]


def faults(outcomes: Sequence[Outcome], seed: int, work: Path) -> str:
    """Return a paragraph for each fault: the injected fault, the command, the result, and how to repeat it."""
    order = {verdict: place for place, verdict in enumerate(reversed(FAULTS))}
    ordered = sorted(
        (one for one in outcomes if one.verdict in FAULTS), key=lambda one: (order[one.verdict], one.kind, one.number)
    )
    return "\n\n".join(paragraph(one, seed, work) for one in ordered)


def paragraph(outcome: Outcome, seed: int, work: Path) -> str:
    """Return the paragraph of one fault."""
    again = f"make campaign ARGS='--seed {seed} --repeat {outcome.kind}-{outcome.number}'"
    return (
        f"{outcome.verdict.upper()} {outcome.kind}-{outcome.number}: {outcome.fault}\n"
        f"  rcdp {outcome.command}\n  {outcome.why}\n  to repeat: {again}\n"
        f"  files in: {shlex.quote(str(work / 'trials' / f'{outcome.kind}-{outcome.number}'))}"
    )


def failed(outcomes: Sequence[Outcome]) -> bool:
    """Return whether any trial was silent, a traceback or a hang, or failed itself."""
    return any(one.verdict in (Verdict.SILENT, Verdict.TRACEBACK, Verdict.HANG, Verdict.BROKEN) for one in outcomes)
