"""The tables of a comparison: methods, paired tests, cells, times."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rcdp_hpc.comparison.report.files import ComparisonFiles
from rcdp_hpc.comparison.results import BudgetName, CellResult, Comparison, Summary
from rcdp_hpc.comparison.tables import groups, p_text, score_table, time_table, title
from rcdp_hpc.evaluation.report.charts import interval_chart, side_by_side
from rcdp_hpc.evaluation.report.html import NOTHING, Html, bullets, code, join, number, paragraph, percent, table, tag
from rcdp_hpc.evaluation.report.links import report_link
from rcdp_hpc.evaluation.report.text import counted, duration
from rcdp_hpc.search.records.best import format_value

Group = tuple[BudgetName, str]


def group_title(comparison: Comparison, group: Group) -> str:
    """Return what was equal for all methods of a group, and what they read."""
    text = title(comparison, *group)
    return text[0].upper() + text[1:]


def summaries_of(comparison: Comparison, group: Group) -> list[Summary]:
    """Return the methods of a group in the order of the tables."""
    return [one for one in comparison.summaries if (one.budget, one.arm) == group]


def methods(files: ComparisonFiles, comparison: Comparison) -> Html:
    """Return a table and a figure for each group."""
    parts: list[Html] = []
    for group in groups(comparison):
        parts += [tag("h3", group_title(comparison, group)), _picture(files, comparison, group)]
        parts.append(_scores(comparison, group))
    repeats = len({cell.repetition for cell in comparison.cells})
    what = counted(repeats, comparison.repeats.removesuffix("s"))
    note = f"Mean and sample standard deviation over {what}. Balanced accuracy is the mean recall of the classes. "
    note += "The validation rows choose; the test rows are predicted once in each cell. A method with failed cells has "
    note += "the mean of the others, and its row says of how many."
    return join(*parts, paragraph(note, class_="note"))


def _scores(comparison: Comparison, group: Group) -> Html:
    header, *rows = score_table(comparison, *group)
    return table(f"Methods: {group_title(comparison, group)}", header, rows)


def accuracy_text(one: Summary) -> str:
    """Return the mean accuracy of a method and its deviation."""
    mean, deviation = 100 * one.mean["accuracy"], one.deviation.get("accuracy")
    return f"{mean:.2f} %" if deviation is None else f"{mean:.2f} ± {100 * deviation:.2f} %"


def _picture(files: ComparisonFiles, comparison: Comparison, group: Group) -> Html:
    """Return the accuracy by method, with the point of every cell."""
    names, intervals, points = [], [], []
    for one in summaries_of(comparison, group):
        if "accuracy" not in one.mean:
            continue
        mean, deviation = 100 * one.mean["accuracy"], 100 * one.deviation.get("accuracy", math.nan)
        names.append(one.method)
        intervals.append((mean - deviation, mean, mean + deviation))
        cells = files.cells_of(one.method, *group)
        points.append([100 * cell.measures["accuracy"] for cell in cells if cell.done])
    if not names:
        return paragraph("No cell of these has results.", class_="problem")
    best = max(range(len(names)), key=lambda place: intervals[place][1])
    fact = f"Test accuracy by method: {names[best]} has the highest mean, {intervals[best][1]:.2f} %."
    caption = "Test accuracy by method: the mean, one standard deviation to each side, and a ring for every cell."
    return side_by_side(interval_chart(fact, caption, "test accuracy (%)", names, intervals, points=points))


def paired_tests(comparison: Comparison) -> Html:
    """Return the table of the first method against each other one."""
    if not comparison.tests:
        return paragraph("Only one method has results: there is nothing to test.")
    rows = []
    for one in comparison.tests:
        place = one.other if len(groups(comparison)) == 1 else f"{one.other} ({one.budget}, {one.arm})"
        difference = f"{100 * one.difference:+.2f} points" if one.difference is not None else NOTHING
        p = NOTHING if one.p is None else f"{one.p:.4f}"
        rows.append(
            (place, difference, one.pairs, one.test or NOTHING, number(one.statistic), p, p_text(one), one.note)
        )
    header = ("against", "difference", "pairs", "test", "statistic", "p", "p (Holm)", "note")
    shown = table(f"{comparison.tests[0].first} against each other method", header, rows, words=(3, 7))
    note = "Difference: mean accuracy of the first method less that of the other. Tests are two-sided; p (Holm) is "
    note += (
        "corrected for the number of methods. Pairs: repetitions in which both have results; for the test of McNemar, "
    )
    note += "test samples on which exactly one is right."
    return join(shown, paragraph(note, class_="note"))


def times(files: ComparisonFiles, comparison: Comparison) -> Html:
    """Return the mean seconds of each stage by method."""
    if files.timings is None:
        return paragraph("The times cannot be read.", class_="problem")
    parts = []
    for group in groups(comparison):
        header, *rows = time_table(comparison, files.timings, *group)
        parts.append(table(f"Mean time of a cell: {group_title(comparison, group)}", header, rows))
    shared = [
        f"{name}: {', '.join(f'{part} {duration(seconds)}' for part, seconds in spent.items())}"
        for name, spent in files.timings.data.items()
    ]
    note = paragraph("Once for all methods:", class_="note") if shared else Html("")
    return join(*parts, note, bullets(shared))


def cells(files: ComparisonFiles, comparison: Comparison) -> Html:
    """Return the table of all cells, with links to their reports, and the reasons of those that failed."""
    rows = []
    for cell in comparison.cells:
        report = files.run.cell(cell.name).report / "index.html"
        name = report_link(files.page, report, cell.name)
        chosen = ", ".join(f"{key} = {_value(value)}" for key, value in cell.chosen.items())
        measured = [percent(cell.measures.get("accuracy"), 2), number(cell.measures.get("macro_f1"))]
        rows.append((name, cell.status, *measured, cell.measures.get("parameters"), code(chosen) if chosen else None))
    header = ("cell", "status", "test accuracy", "macro F1", "parameters", "chosen")
    shown = table("Cells, with a link to the report of each run", header, rows, words=(1, 5), tall=len(rows) > 40)
    return join(_failed(comparison.failed), shown)


def _value(value: object) -> str:
    return format_value(value) if isinstance(value, int | float | str) else str(value)


def _failed(failed: Sequence[CellResult]) -> Html:
    if not failed:
        return Html("")
    lead = f"{counted(len(failed), 'cell')} failed. They are not in the means:"
    return join(paragraph(lead, class_="problem"), bullets(f"{cell.name}: {cell.reason[:500]}" for cell in failed))
