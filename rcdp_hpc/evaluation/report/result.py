"""The result in one sentence, what is missing, and the comparison with baselines."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.evaluation.report.criteria import comparisons, criteria
from rcdp_hpc.evaluation.report.html import Html, bullets, join, number, paragraph, percent, table
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.evaluation.report.text import STAGE_NAMES, duration
from rcdp_hpc.model.intervals import wilson

Record = dict[str, Any]
BASELINES = {"ridge": "ridge regression on the same states", "trees": "boosted trees on the original rows"}


def interval_text(correct: int, samples: int) -> str:
    """Return the 95 % interval of an accuracy as text."""
    low, high = wilson(correct, samples)
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"


def sentence(test: Record) -> str:
    """Return the result of a test in one sentence."""
    correct, samples = test["correct"], test["samples"]
    balanced = test.get("balanced_accuracy")
    recall = "" if balanced is None else f", balanced accuracy {number(balanced)}"
    return (
        f"The model recognises {correct:,} of {samples:,} test samples: accuracy {percent(test['accuracy'], 2)} "
        f"({interval_text(correct, samples)}), macro F1 {number(test['macro_f1'])}{recall}."
    )


def result(files: RunFiles) -> Html:
    """Return the section about the result of a run, and about what is missing or damaged."""
    parts = [] if files.test is None else [paragraph(sentence(files.test), class_="lead")]
    if files.test is not None and files.status("train") != "done":
        note = "The training has not finished: this is the result of its best model so far."
        parts.append(paragraph(note, class_="problem"))
    table_of_test = [] if files.test is None else [criteria(files.test)]
    return join(*parts, *missing(files), *damaged(files), *table_of_test)


def missing(files: RunFiles) -> list[Html]:
    """Return what is missing in an unfinished run; empty for a finished one."""
    unfinished = {stage: files.status(stage) for stage in files.stages if files.status(stage) != "done"}
    if not unfinished:
        return []
    items = []
    for stage, status in unfinished.items():
        reason = files.states[stage].get("reason")
        words = {"killed": "was killed, and can be resumed", "stopped": "is stopped with a checkpoint"}.get(
            status, f"is {status}"
        )
        text = f"The {STAGE_NAMES[stage]} {words if status != 'failed' else 'failed'}"
        items.append(f"{text}: {str(reason)[:500]}" if reason else f"{text}.")
    lead = "" if files.test is not None else "This run is not finished: it has no result on the test yet."
    return [*([paragraph(lead, class_="lead")] if lead else []), bullets(items)]


def damaged(files: RunFiles) -> list[Html]:
    """Return what could not be read."""
    if not files.problems:
        return []
    lead = "Some files cannot be read. This report is incomplete:"
    return [paragraph(lead, class_="problem"), bullets(problem.message for problem in files.problems)]


def baselines(files: RunFiles) -> Html:
    """Return the section that compares the model with simpler ones."""
    test, confusion = files.test, files.confusion
    if test is None or confusion is None:
        return paragraph("There is no result on the test yet.", class_="problem")
    true = confusion.sum(1)
    most = int(true.max())
    rows = [_row("this model", test)]
    rows += [_row(name, test[key]) for key, name in BASELINES.items() if isinstance(test.get(key), dict)]
    constant = {"correct": most, "samples": int(true.sum()), "macro_f1": _constant_f1(most, confusion)}
    rows.append(_row("always the most frequent class", constant))
    header = ("classifier", "correct", "accuracy", "95 % interval", "macro F1")
    shown = table("The model and its baselines on the same test samples", header, rows)
    return join(shown, comparisons(files), *_judgement(test))


def _row(name: str, scores: Record) -> tuple[Any, ...]:
    correct, samples = scores["correct"], scores["samples"]
    low, high = wilson(correct, samples)
    interval = f"{100 * low:.1f} to {100 * high:.1f} %"
    return name, correct, percent(correct / samples if samples else None, 2), interval, number(scores["macro_f1"])


def _constant_f1(most: int, confusion: Any) -> float:
    """Return the macro F1 of predicting the most frequent class, over the classes that occur in the test."""
    total, present = int(confusion.sum()), int((confusion.sum(1) > 0).sum())
    return 2 * most / (total + most) / present if present else float("nan")


def _judgement(test: Record) -> list[Html]:
    """Return what the comparison with boosted trees shows, or that there is no baseline."""
    texts = []
    trees = test.get("trees")
    if isinstance(trees, dict):
        verdicts = {"trees": "boosted trees are better", "model": "the model is better"}
        better = verdicts.get(str(trees.get("better")), "neither is better")
        fitted = f" (fitted in {duration(trees['seconds'])})" if "seconds" in trees else ""
        texts.append(f"Boosted trees{fitted}: {better} by a paired sign test (p = {number(trees.get('p_value'), 3)}).")
    if not texts and "ridge" not in test:
        texts.append("No ridge or tree baseline was fitted (training.baseline, training.tree_baseline).")
    return [paragraph(text) for text in texts]
