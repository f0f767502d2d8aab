"""The page of a comparison."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rcdp_hpc.comparison.report import figures, tables
from rcdp_hpc.comparison.report.files import ComparisonFiles
from rcdp_hpc.comparison.results import FILE, TIMINGS_FILE, BudgetName, Comparison
from rcdp_hpc.comparison.tables import groups, p_text
from rcdp_hpc.config import flatten
from rcdp_hpc.evaluation.report.asked import configuration
from rcdp_hpc.evaluation.report.checking import message_list, recorded_digest
from rcdp_hpc.evaluation.report.html import Html, bullets, code, join, paragraph, percent, table
from rcdp_hpc.evaluation.report.links import report_link
from rcdp_hpc.evaluation.report.page import Section, render
from rcdp_hpc.evaluation.report.run_files import Problem
from rcdp_hpc.evaluation.report.text import command, counted, moment
from rcdp_hpc.evaluation.report.write import NAME
from rcdp_hpc.runtime.files import write_text
from rcdp_hpc.runtime.rundir import RunDirectory

log = logging.getLogger(__name__)


def write_comparison_report(run: RunDirectory, to: Path | None = None) -> tuple[Path, list[Problem]]:
    """Write the report of a comparison, ended or not, as one HTML file.

    Parameters
    ----------
    run : RunDirectory
        The folder of the comparison.
    to : Path, optional
        The file to write; default ``DIR/report/index.html``.

    Returns
    -------
    path : Path
        The file.
    problems : list of Problem
        Files that could not be read. The report names them.

    Raises
    ------
    StageFailedError, InputError
        If the file cannot be written.
    """
    path = run.report / NAME if to is None else to
    files = ComparisonFiles(run, path)
    write_text(path, comparison_page(files))
    return path, files.problems


def try_to_write_comparison_report(run: RunDirectory) -> None:
    """Write the report at the end of a comparison. If that fails, log the reason: the results are complete."""
    try:
        path, problems = write_comparison_report(run)
    except Exception as error:  # whatever it is, the results are written
        reason = f"{type(error).__name__}: {error}"
        log.warning("the report of %s could not be written (%s); rcdp report tries it again", run.path, reason)
        return
    for problem in problems:
        log.warning("the report is incomplete: %s", problem.message)
    log.info("wrote %s", path)


def comparison_page(files: ComparisonFiles) -> str:
    """Return the page of a comparison."""
    files.read_everything()
    path, comparison = files.run.path.absolute(), files.comparison
    note = f"{path} · report written {moment(time.time())}"
    sections = [
        Section("result", "Result", partial(_result, files)),
        Section("asked", "What was asked", partial(_asked, files)),
    ]
    if comparison is None:
        sections.append(Section("cells", "Cells", partial(_states, files)))
    else:
        sections += _results(files, comparison)
    sections += [
        Section("warnings", "Warnings of the logs", lambda: message_list(files.messages)),
        Section("next", "What to do next", partial(_next, files)),
    ]
    return render(f"Comparison {path.name}", note, sections)


def _results(files: ComparisonFiles, comparison: Comparison) -> list[Section]:
    def section(key: str, title: str, write: Callable[..., Html], *extra: object) -> Section:
        return Section(key, title, partial(write, *extra, comparison))

    return [
        section("methods", "Methods", tables.methods, files),
        section("tests", "Paired tests", tables.paired_tests),
        section("convergence", "Convergence of the searches", figures.convergence, files),
        section("utilisation", "Utilisation over time", figures.utilisation, files),
        section("time", "Time", tables.times, files),
        section("cells", "Cells", tables.cells, files),
        Section("digests", "Digests to check it by", partial(_digests, files)),
    ]


def _result(files: ComparisonFiles) -> Html:
    parts = []
    if files.comparison is None:
        ended = sum(one.status != "not ended" for one in files.states)
        parts.append(
            paragraph(
                f"This comparison has not ended: {ended} of {counted(len(files.states), 'cell')} have.", class_="lead"
            )
        )
    else:
        parts += [paragraph(text, class_="lead") for text in sentences(files.comparison)]
        parts += _incomplete(files.comparison)
    parts += [paragraph(problem.message, class_="problem") for problem in files.problems]
    return join(*parts)


def sentences(comparison: Comparison) -> list[str]:
    """Return the result of a comparison, one sentence for each budget and arm."""
    all_groups = groups(comparison)
    if len(all_groups) == 1:
        return [_sentence(comparison, all_groups[0])]
    return [f"{tables.group_title(comparison, group)}: {_sentence(comparison, group)}" for group in all_groups]


def _sentence(comparison: Comparison, group: tuple[BudgetName, str]) -> str:
    ranked = [one for one in tables.summaries_of(comparison, group) if "accuracy" in one.mean]
    if not ranked:
        return "no cell has results."
    ranked.sort(key=lambda one: -one.mean["accuracy"])
    best = ranked[0]
    text = f"{best.method} has the highest mean test accuracy, {tables.accuracy_text(best)} ({best.done} of "
    text += f"{counted(best.planned, 'cell')})"
    if len(ranked) > 1:
        second = ranked[1]
        text += f", followed by {second.method} with {tables.accuracy_text(second)}"
        pair = {best.method, second.method}
        test = next(
            (one for one in comparison.tests if {one.first, one.other} == pair and (one.budget, one.arm) == group), None
        )
        if test is not None and test.p_holm is not None:
            text += f" (p = {p_text(test)}, corrected by Holm)".replace("= <", "<")
    return f"{text}."


def _incomplete(comparison: Comparison) -> list[Html]:
    """Return what is missing in the tables: failed cells, and methods that were left out."""
    parts = []
    if comparison.failed:
        number = len(comparison.failed)
        text = (
            f"{number} of {counted(len(comparison.cells), 'cell')} failed: the means are over the others (see Cells)."
        )
        parts.append(paragraph(text, class_="problem"))
    if comparison.left_out:
        left = [
            f"{one.method}{f' ({one.arm})' if one.arm != 'rows' else ''}: {one.reason}" for one in comparison.left_out
        ]
        parts += [paragraph("Left out, because they cannot take these data:"), bullets(left)]
    return parts


def _asked(files: ComparisonFiles) -> Html:
    parts = []
    comparison = files.comparison
    if comparison is not None:
        data = comparison.data
        shape = " x ".join(map(str, data["sample_shape"]))
        rows = ", ".join(f"{count:,} {'training' if name == 'train' else name}" for name, count in data["rows"].items())
        classes = counted(len(data["classes"]), "class", "classes")
        text = f"Data: {data['description']}; samples of shape {shape} in {classes}; rows: {rows} (first repetition)."
        parts.append(paragraph(text))
        listed = [(one.name, one.meaning, one.source) for one in comparison.methods]
        caption = "Methods and the sources of their equations"
        parts.append(table(caption, ("method", "what it is", "source"), listed, words=(1, 2)))
        repetitions = sorted({cell.repetition for cell in comparison.cells})
        seeds = ", ".join(str(fold or seed) for seed, fold in repetitions[:50])
        parts.append(paragraph(f"Repetitions: {comparison.repeats} {seeds}{', ...' if len(repetitions) > 50 else ''}."))
    shown = configuration(flatten(files.settings)) if files.settings else None
    parts += [shown] if shown is not None else []
    if comparison is not None:
        versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
        parts.append(paragraph("Versions: ", versions, "."))
    return join(*parts)


def _states(files: ComparisonFiles) -> Html:
    """Return the cells of a comparison that has not ended."""
    rows = []
    for one in files.states:
        name = report_link(files.page, files.run.cell(one.name).report / NAME, one.name)
        rows.append((name, one.status, percent(one.accuracy, 2), one.reason[:300] or None))
    return table("Cells", ("cell", "status", "test accuracy", "reason"), rows, words=(1, 3), tall=len(rows) > 40)


def _digests(files: ComparisonFiles) -> Html:
    rows = []
    for name, content in ((FILE, "results, without times: equal for repeats"), (TIMINGS_FILE, "times")):
        path = files.run.path / name
        if path.is_file():
            rows.append((name, content, code(str(recorded_digest(path)))))
    note = (
        "The digest is the key sha256 of the file, of all its other keys. Each command that reads the file checks it. "
    )
    note += "comparison.json has the same bytes after a kill and resume, and for any number of ranks if "
    note += "compare.group_ranks = 1."
    return join(
        table("SHA-256 digests", ("file", "content", "value"), rows, words=(1, 2)), paragraph(note, class_="note")
    )


def _next(files: ComparisonFiles) -> Html:
    path = files.run.path
    again = code(command("rcdp", "compare", f"--out={path}"))
    items = []
    if files.comparison is None:
        items.append(join("Continue with ", again, ": cells that are done are not repeated."))
    elif files.comparison.failed:
        items.append(join("Try the failed cells again with ", again, "."))
    repetitions = {cell.repetition for cell in files.comparison.cells} if files.comparison else ()
    if len(repetitions) in (1, 2):
        items.append(join("With so few repetitions, differences may be chance: more ", code("compare.seeds"), " or ",
                          code("compare.folds"), " in a new folder show more."))  # fmt: skip
    predict = f"{command('rcdp', 'predict', path / 'cells')}/CELL SAMPLES --to labels.csv"
    items.append(join("Label new samples with the model of a cell that was trained: ", code(predict), "."))
    return bullets(items)
