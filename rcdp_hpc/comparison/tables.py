"""The tables of a comparison: text for terminal and log, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcdp_hpc.comparison.results import MEASURES, BudgetName, Comparison, PairedTest, Summary, Timings
from rcdp_hpc.runtime.files import write_text
from rcdp_hpc.runtime.text import display_width, pad

Table = list[list[str]]

TITLES = {
    "accuracy": "test accuracy %",
    "macro_f1": "macro F1",
    "balanced_accuracy": "balanced acc. %",
    "validation_accuracy": "validation %",
    "evaluations": "evaluations",
    "parameters": "parameters",
}
_PERCENT = ("accuracy", "balanced_accuracy", "validation_accuracy")
_COUNTS = ("evaluations", "parameters")
ARMS = {"rows": "samples as they are", "extractor": "features of one trained extractor"}


def groups(comparison: Comparison) -> list[tuple[BudgetName, str]]:
    """Return the pairs of budget and arm, a table for each."""
    return list(dict.fromkeys((one.budget, one.arm) for one in comparison.summaries))


def title(comparison: Comparison, budget: BudgetName, arm: str) -> str:
    """Return the title of a table: what was equal for all methods, and what they read."""
    budgets = comparison.budgets
    if budget == "seconds":
        equal = f"equal time: {budgets['seconds']:g} s for search and training"
    else:
        population, generations = (budgets["evaluations"][name] for name in ("population", "generations"))
        equal = f"equal candidate evaluations: {population} x {generations}"
    return f"{equal}; {ARMS[arm]}" if len(comparison.arms) > 1 else equal


def score_table(comparison: Comparison, budget: BudgetName, arm: str) -> Table:
    """Return the scores by method: mean and deviation over the cells, and p against the first method."""
    tests = {test.other: test for test in comparison.tests if (test.budget, test.arm) == (budget, arm)}
    rows = [["method", "cells", *TITLES.values(), "p (Holm)"]]
    for one in _of(comparison, budget, arm):
        cells = f"{one.done} of {one.planned}" if one.done < one.planned else str(one.done)
        rows.append([one.method, cells, *(_measure(one, name) for name in MEASURES), p_text(tests.get(one.method))])
    return rows


def time_table(comparison: Comparison, timings: Timings, budget: BudgetName, arm: str) -> Table:
    """Return the mean seconds of each stage by method, and the utilisation of the processor."""
    by_method = {
        one.method: [
            timings.cells[cell.name]
            for cell in comparison.cells
            if (cell.method, cell.budget, cell.arm) == (one.method, budget, arm) and cell.name in timings.cells
        ]
        for one in _of(comparison, budget, arm)
    }
    stages = list(dict.fromkeys(stage for cells in by_method.values() for cell in cells for stage in cell.seconds))
    rows = [["method", *(f"{stage} s" for stage in stages), "total s", "processor %"]]
    for method, cells in by_method.items():
        columns = [[cell.seconds.get(stage, 0.0) for cell in cells] for stage in stages]
        columns += [[cell.total for cell in cells]]
        used = [cell.utilisation["mean"] for cell in cells if cell.utilisation]
        percent = f"{statistics.fmean(used):.0f}" if used else "-"
        rows.append([method, *(f"{statistics.fmean(values):.1f}" if values else "-" for values in columns), percent])
    return rows


def notes(comparison: Comparison, timings: Timings) -> list[str]:
    """Return what a reader of the tables must know: tests, failed cells, methods left out, times that all share."""
    lines = [_how_tested(comparison)]
    lines += [f"no test of {test.first} against {test.other}: {test.note}" for test in comparison.tests if test.note]
    lines += [f"{cell.name} failed: {cell.reason}" for cell in comparison.failed]
    for one in comparison.left_out:
        arm = f" (arm '{one.arm}')" if one.arm != "rows" else ""
        lines.append(f"{one.method}{arm} is left out: {one.reason}")
    for name, seconds in timings.data.items():
        parts = [f"{part} {value:.1f} s" for part, value in seconds.items()]
        lines.append(f"once for all methods, {name}: {', '.join(parts)}")
    return list(filter(None, lines))


def _how_tested(comparison: Comparison) -> str:
    repeats = len({cell.repetition for cell in comparison.cells})
    what = f"{repeats} {comparison.repeats if repeats > 1 else comparison.repeats.removesuffix('s')}"
    text = f"mean and sample standard deviation over {what}" if repeats > 1 else f"{what}: no deviation"
    names = sorted({test.test for test in comparison.tests if test.test})
    if not names:
        return text
    return f"{text}; p: {', '.join(names)} of the test accuracy against {comparison.tests[0].first}, two-sided"


def _of(comparison: Comparison, budget: BudgetName, arm: str) -> list[Summary]:
    return [one for one in comparison.summaries if (one.budget, one.arm) == (budget, arm)]


def _measure(one: Summary, name: str) -> str:
    if name not in one.mean:
        return "failed" if name == "accuracy" else "-"
    if name in _COUNTS:
        return f"{one.mean[name]:.0f}"
    scale, digits = (100, 2) if name in _PERCENT else (1, 4)
    mean = f"{scale * one.mean[name]:.{digits}f}"
    return f"{mean} ± {scale * one.deviation[name]:.{digits}f}" if name in one.deviation else mean


def p_text(test: PairedTest | None) -> str:
    """Return the corrected p-value of a test; "-" if there is none."""
    if test is None or test.p_holm is None:
        return "-"
    return f"{test.p_holm:.4f}" if test.p_holm >= 0.0001 else "< 0.0001"


def text_lines(comparison: Comparison, timings: Timings) -> list[str]:
    """Return all tables as lines of text."""
    lines = []
    for budget, arm in groups(comparison):
        lines += [title(comparison, budget, arm), *_aligned(score_table(comparison, budget, arm)), ""]
        lines += [*_aligned(time_table(comparison, timings, budget, arm)), ""]
    return lines + notes(comparison, timings)


def _aligned(table: Table) -> list[str]:
    widths = [max(display_width(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(
            pad(cell, width) if column == 0 else " " * (width - display_width(cell)) + cell
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def markdown(comparison: Comparison, timings: Timings) -> str:
    """Return all tables as Markdown."""
    parts = [f"Data: {_escaped(comparison.data['description'])}\n"]
    for budget, arm in groups(comparison):
        heading = title(comparison, budget, arm)
        parts.append(f"## {heading[0].upper()}{heading[1:]}\n")
        tables = score_table(comparison, budget, arm), time_table(comparison, timings, budget, arm)
        parts += ["\n".join(_markdown_lines(table)) + "\n" for table in tables]
    parts.append("\n".join(f"- {_escaped(note)}" for note in notes(comparison, timings)))
    return "\n".join(parts) + "\n"


def _markdown_lines(table: Table) -> list[str]:
    head, *rows = table
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return [f"| {' | '.join(map(_escaped, row))} |" for row in (head, rule, *rows)]


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def csv_text(comparison: Comparison, timings: Timings) -> str:
    """Return one line for each cell: where it belongs, how it ended, its measures and seconds, in full precision."""
    stages = sorted({stage for timing in timings.cells.values() for stage in timing.seconds})
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    place = ("name", "method", "arm", "budget", "seed", "fold", "status", "reason")
    writer.writerow([*place, *MEASURES, *(f"{stage}_seconds" for stage in stages), "total_seconds"])
    for cell in comparison.cells:
        timing = timings.cells.get(cell.name)
        seconds: list[Any] = [""] * (len(stages) + 1)
        if timing is not None:
            seconds = [*(timing.seconds.get(stage, "") for stage in stages), timing.total]
        writer.writerow(
            [*(getattr(cell, name) for name in place), *(cell.measures.get(name, "") for name in MEASURES), *seconds]
        )
    return buffer.getvalue()


def write_tables(folder: Path, comparison: Comparison, timings: Timings) -> Sequence[Path]:
    """Write ``tables.md`` and ``cells.csv``; return their paths."""
    texts = {"tables.md": markdown(comparison, timings), "cells.csv": csv_text(comparison, timings)}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
