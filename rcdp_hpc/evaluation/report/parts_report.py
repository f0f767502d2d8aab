"""The report of several runs of one folder: the folds of a cross-validation, or the tasks of a job array."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rcdp_hpc.evaluation.report import classes
from rcdp_hpc.evaluation.report.asked import asked
from rcdp_hpc.evaluation.report.charts import interval_chart, side_by_side
from rcdp_hpc.evaluation.report.checking import how_to_verify, message_list
from rcdp_hpc.evaluation.report.criteria import criteria_of_folds
from rcdp_hpc.evaluation.report.data import data
from rcdp_hpc.evaluation.report.html import Html, bullets, code, join, number, paragraph, percent, table
from rcdp_hpc.evaluation.report.links import report_link
from rcdp_hpc.evaluation.report.page import Section, render
from rcdp_hpc.evaluation.report.run_files import LogMessage, Problem, RunFiles
from rcdp_hpc.evaluation.report.text import command, counted, duration, moment
from rcdp_hpc.model.intervals import wilson
from rcdp_hpc.runtime.digests import file_sha256
from rcdp_hpc.runtime.rundir import RunDirectory

Record = dict[str, Any]


@dataclass
class Parts:
    """A folder with several runs.

    Attributes
    ----------
    whole : RunFiles
        The folder itself: configuration, summary of a cross-validation.
    runs : list of RunFiles
    page : Path
        The file of the report, from which links to the runs' reports lead.
    is_folds : bool
        Whether the runs are folds, whose tests have no sample in common.
    """

    whole: RunFiles
    runs: list[RunFiles]
    page: Path
    is_folds: bool
    _done: list[RunFiles] = field(default_factory=list)

    @classmethod
    def of(cls, run: RunDirectory, page: Path) -> Parts:
        """Return the runs in a folder."""
        folds = run.folds()
        return cls(RunFiles(run), [RunFiles(part) for part in folds or run.tasks()], page, bool(folds))

    @property
    def done(self) -> list[RunFiles]:
        """The runs with a result on their test."""
        return [part for part in self.runs if part.test is not None and part.status("evaluate") == "done"]

    @property
    def expected(self) -> int:
        """Number of runs that the folder should have."""
        folds = self.whole.config.data.folds if self.is_folds and self.whole.config is not None else 0
        return max(folds, len(self.runs))

    @property
    def problems(self) -> list[Problem]:
        """What could not be read, in any of the runs."""
        return [problem for part in (self.whole, *self.runs) for problem in part.problems]

    @property
    def noun(self) -> str:
        """What a run is called."""
        return "fold" if self.is_folds else "task"


def parts_page(parts: Parts) -> str:
    """Return the page of a cross-validation or a job array."""
    for files in (parts.whole, *parts.runs):
        files.read_everything()
    path = parts.whole.run.path.absolute()
    kind = "Cross-validation" if parts.is_folds else "Job array"
    sections = [
        Section("result", "Result", partial(_result, parts)),
        Section("asked", "What was asked", partial(_asked, parts)),
        Section("parts", "Folds" if parts.is_folds else "Tasks", partial(_parts, parts)),
        Section("data", "Data before and after balancing", partial(_data, parts)),
        Section("classes", "Results of each class", partial(_classes, parts)),
        Section("confusion", "Confusions", partial(_confusions, parts)),
        Section("time", "Time", partial(_time, parts)),
        Section("digests", "Digests to check it by", partial(_digests, parts)),
        Section("warnings", "Warnings of the logs", partial(_warnings, parts)),
        Section("next", "What to do next", partial(_next, parts)),
    ]
    return render(f"{kind} {path.name}", f"{path} · report written {moment(time.time())}", sections)


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def _scores(parts: Parts, name: str) -> list[float]:
    return [float(part.test[name]) for part in parts.done if part.test is not None]


def _result(parts: Parts) -> Html:
    accuracy, macro_f1 = _scores(parts, "accuracy"), _scores(parts, "macro_f1")
    content: list[Html] = []
    if accuracy:
        mean, mean_f1 = percent(statistics.fmean(accuracy), 2), number(statistics.fmean(macro_f1))
        text = f"Over {len(accuracy)} of {counted(parts.expected, parts.noun)} the mean accuracy is {mean} (standard "
        text += f"deviation {percent(_spread(accuracy), 2)}), and the mean macro F1 is {mean_f1} "
        content.append(paragraph(f"{text}({number(_spread(macro_f1), 2)}).", class_="lead"))
    left = parts.expected - len(accuracy)
    if left:
        content.append(
            paragraph(f"{counted(left, parts.noun)} not finished: this result is incomplete.", class_="problem")
        )
    for problem in parts.problems:
        content.append(paragraph(problem.message, class_="problem"))
    if parts.is_folds and parts.whole.summary is not None:
        content.append(criteria_of_folds(parts.whole.summary))
    return join(*content)


def _asked(parts: Parts) -> Html:
    if parts.whole.config is not None:
        parts.whole.states.update(parts.runs[0].states)
        return asked(parts.whole)
    return asked(parts.runs[0])


def _parts(parts: Parts) -> Html:
    rows, names, intervals = [], [], []
    for files in parts.runs:
        name, test = files.run.path.name, files.test if files in parts.done else None
        link = report_link(parts.page, files.run.report / "index.html", name)
        if test is None:
            rows.append((link, _status(files), *[None] * 5))
            continue
        low, high = wilson(test["correct"], test["samples"])
        names.append(name)
        intervals.append((100 * low, 100 * test["accuracy"], 100 * high))
        trees = test.get("trees") or {}
        interval, accuracy_of_trees = f"{100 * low:.1f} to {100 * high:.1f} %", percent(trees.get("accuracy"), 2)
        numbers = (test["samples"], percent(test["accuracy"], 2), interval, number(test["macro_f1"]))
        rows.append((link, "done", *numbers, accuracy_of_trees))
    accuracy, macro_f1 = _scores(parts, "accuracy"), _scores(parts, "macro_f1")
    if len(accuracy) > 1:
        rows.append(
            ("mean", "", None, percent(statistics.fmean(accuracy), 2), None, number(statistics.fmean(macro_f1)), None)
        )
        rows.append(
            ("standard deviation", "", None, percent(_spread(accuracy), 2), None, number(_spread(macro_f1), 2), None)
        )
    header = (parts.noun, "status", "test samples", "accuracy", "95 % interval", "macro F1", "boosted trees")
    shown = table(f"Results of each {parts.noun}, with a link to its own report", header, rows, words=(1,))
    if not names:
        return shown
    span = f"{100 * min(accuracy):.2f} to {100 * max(accuracy):.2f} %"
    fact = f"Accuracy of each {parts.noun} with its 95 % interval: {span}."
    return join(
        side_by_side(
            interval_chart(
                fact, f"Accuracy of each {parts.noun}, and its 95 % interval.", "accuracy (%)", names, intervals
            )
        ),
        shown,
    )


def _status(files: RunFiles) -> str:
    unfinished = next((stage for stage in files.stages if files.status(stage) != "done"), "evaluate")
    reason = str(files.states[unfinished].get("reason") or "")
    return f"{unfinished} {files.status(unfinished)}" + (f": {reason[:200]}" if reason else "")


def _data(parts: Parts) -> Html:
    first = next((files for files in parts.runs if files.index is not None), parts.runs[0])
    note = f"These are the rows of {first.run.path.name}; each {parts.noun}'s own report has its own."
    return join(paragraph(note, class_="note"), data(first))


def _pooled(parts: Parts) -> tuple[Any, list[str]] | None:
    """Return the confusion matrix of all finished folds and the names of the classes."""
    found = [
        (part.confusion, part.summary["classes"]) for part in parts.done if part.summary and part.confusion is not None
    ]
    if not found or any(names != found[0][1] for _, names in found):
        return None
    return sum(confusion for confusion, _ in found), found[0][1]


def _classes(parts: Parts) -> Html | None:
    if not parts.is_folds:
        return None
    pooled = _pooled(parts)
    if pooled is None:
        return paragraph("No fold has results on its test yet.", class_="problem")
    return join(
        paragraph(f"All samples of the tests of {counted(len(parts.done), 'fold')} together."),
        classes.class_results(*pooled),
    )


def _confusions(parts: Parts) -> Html | None:
    pooled = _pooled(parts) if parts.is_folds else None
    return None if pooled is None else classes.confusion_results(*pooled)


def _time(parts: Parts) -> Html:
    stages = list(dict.fromkeys(stage for files in parts.runs for stage in files.stages))
    rows = []
    for files in parts.runs:
        seconds = [files.states[stage].get("seconds") for stage in stages]
        known = [one for one in seconds if one is not None]
        ranks = max((int(files.states[stage].get("ranks", 1)) for stage in stages), default=1)
        rows.append((files.run.path.name, *map(duration, seconds), duration(sum(known)), ranks))
    return table(f"Time of each stage of each {parts.noun}; {parts.noun}s may have run at the same time",
                 (parts.noun, *stages, "all", "ranks"), rows)  # fmt: skip


def _digests(parts: Parts) -> Html:
    rows = []
    for files in parts.runs:
        model = code(file_sha256(files.run.model)) if files.run.model.is_file() else None
        shards = code(files.index["sha256"]) if files.index is not None and "sha256" in files.index else None
        rows.append((files.run.path.name, model, shards))
    caption = "SHA-256 of each model file, and of the content of each index of shards"
    shown = table(caption, (parts.noun, "model", "shards"), rows, words=(1, 2))
    return join(shown, how_to_verify(parts.runs[0].run.path))


def _warnings(parts: Parts) -> Html:
    merged: dict[tuple[str, str], LogMessage] = {}
    for files in parts.runs:
        for one in files.messages:
            before = merged.get((one.level, one.text))
            count, last = (before.count, before.last) if before else (0, 0.0)
            merged[one.level, one.text] = LogMessage(one.level, one.text, count + one.count, max(last, one.last))
    return message_list(list(merged.values()))


def _next(parts: Parts) -> Html:
    path = parts.whole.run.path
    items: list[Any] = []
    if len(parts.done) < parts.expected:
        again = ("rcdp", "crossvalidate", f"--out={path}") if parts.is_folds else ("rcdp", "status", path)
        items.append(
            join("Continue with ", code(command(*again)), ", then ", code(command("rcdp", "report", path)), ".")
        )
    if parts.done:
        best = max(parts.done, key=lambda files: files.test["accuracy"] if files.test else 0.0)
        predict = f"{command('rcdp', 'predict', best.run.path)} SAMPLES --to labels.csv"
        items.append(join(f"Label new samples with the model of one {parts.noun}: ", code(predict), "."))
    if parts.is_folds and parts.done:
        items.append("For a model of all data, run the same configuration once more with data.folds = 0.")
    trees = [part.test["trees"]["accuracy"] for part in parts.done if part.test and "trees" in part.test]
    if (
        trees
        and len(trees) == len(parts.done)
        and statistics.fmean(trees) > statistics.fmean(_scores(parts, "accuracy"))
    ):
        items.append("Boosted trees have the higher mean accuracy on these data.")
    return bullets(items)
