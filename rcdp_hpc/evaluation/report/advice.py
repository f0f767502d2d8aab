"""What to do next: the commands that usually follow, and suggestions that the results give reason for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rcdp_hpc.config.choices.sources import source_choice
from rcdp_hpc.evaluation.epochs import best_epoch
from rcdp_hpc.evaluation.report.html import Html, bullets, code, join, paragraph, percent, tag
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.evaluation.report.text import STAGE_NAMES, class_name, command, counted, listed
from rcdp_hpc.evaluation.search_lines import winner_of
from rcdp_hpc.model.intervals import wilson
from rcdp_hpc.search.closing import bound_warnings
from rcdp_hpc.search.space import Space

# Fewer test samples of a class than this have an interval of recall about 30 points wide.
FEW_SAMPLES = 30
# Share by which the training accuracy may exceed that of the validation.
OVERFITTED = 0.05
MUCH_WAITING = 0.2
MANY_FAILED = 0.1
# The best generation or epoch counts as late within the last part of a search or a training.
LATE_GENERATION, LATE_EPOCH = 0.9, 0.95


def advice(files: RunFiles) -> Html:
    """Return the section about what to do next."""
    found = [text for rule in RULES for text in rule(files)]
    shown = bullets(found) if found else paragraph("The results give no reason for a suggestion.", class_="note")
    return join(_commands(files), tag("h3", "Suggestions"), shown)


def _commands(files: RunFiles) -> Html:
    """Return the next commands: to resume an unfinished run, to use a finished one."""
    path = files.run.path
    for stage in files.stages:
        status = files.status(stage)
        if status == "running":
            return paragraph("A job works on this run; its progress: ", code(command("rcdp", "status", path)), ".")
        if status != "done":
            resume, again = command("rcdp", stage, f"--out={path}"), command("rcdp", "report", path)
            name = STAGE_NAMES[stage]
            return paragraph(f"To continue with the {name}, also on several ranks: ", code(resume),
                             "; then ", code(again), ".")  # fmt: skip
    samples = "new.npz" if files.config is None else source_choice(files.config.data.source).example
    predict = f"{command('rcdp', 'predict', path)} {samples} --to labels.csv"
    folds = f"{command('rcdp', 'crossvalidate', path / 'config.toml')} --out FOLDS"
    items = [
        join("Label new samples: ", code(predict), ". The name of the output file decides its format."),
        join("The predictions on the test, sample by sample, are in ", code("report/predictions.csv"), "."),
        join("How much the result depends on the split: ", code(folds), "."),
    ]
    return bullets(items)


def _few_samples(files: RunFiles) -> Iterator[Any]:
    if files.confusion is None or files.summary is None:
        return
    true, names = files.confusion.sum(1), files.summary["classes"]
    absent = [class_name(names[label]) for label in np.flatnonzero(true == 0)]
    few = [class_name(names[label]) for label in np.flatnonzero((true > 0) & (true < FEW_SAMPLES))]
    if absent:
        subject = counted(len(absent), "class has", "classes have")
        yield f"{subject} no test samples, so their recall is unknown: {listed(absent)}."
    if few:
        subject = counted(len(few), "class has", "classes have")
        yield (
            f"{subject} fewer than {FEW_SAMPLES} test samples, so their intervals are wide: {listed(few)}. A "
            "cross-validation tests every sample."
        )


def _few_training_rows(files: RunFiles) -> Iterator[Any]:
    if files.index is None:
        return
    least = 7 if files.config is None else files.config.data.smote_neighbours
    few = [class_name(entry["class"]) for entry in files.index["class_table"] if entry["before"] <= least]
    if few:
        subject = counted(len(few), "class has", "classes have")
        yield (
            f"{subject} at most {least} training rows before balancing: {listed(few)}. Synthetic rows add little "
            "variety to so few; more samples of these classes would help most."
        )


def _bounds(files: RunFiles) -> Iterator[Any]:
    if files.best is None or files.config is None or files.config.search.method != "optimizer":
        return
    search, best = files.config.search, files.best
    space = Space.from_config(search.space, search.evaluation)
    searched = Space(tuple(dimension for dimension in space.dimensions if dimension.name in best.values))
    for warning in bound_warnings(searched, best):
        yield warning[0].upper() + warning[1:]


def _still_improving(files: RunFiles) -> Iterator[Any]:
    winner = winner_of(files.complete)
    if winner is None or files.status("search") != "done":
        return
    last = max(line["generation"] for line in files.complete)
    if last >= 4 and winner["generation"] > LATE_GENERATION * last:
        text = f"The search still improved in generation {winner['generation']} of {last}: a larger "
        yield join(text, code("search.generations"), " may find better values.")


def _failed_candidates(files: RunFiles) -> Iterator[Any]:
    failed = sum(line["fitness"] is None for line in files.complete)
    if failed > MANY_FAILED * len(files.complete):
        of_all = f"{failed:,} of {counted(len(files.complete), 'candidate')}"
        yield f"{of_all} failed: see the reasons above, and narrow the search space."


def _longer_training(files: RunFiles) -> Iterator[Any]:
    best = _best_epoch(files)
    epochs = len(files.metrics)
    if best is not None and files.status("train") == "done" and best["epoch"] + 1 >= LATE_EPOCH * epochs:
        longer = command("rcdp", "train", f"--out={files.run.path}", f"--set=training.epochs={2 * epochs}")
        yield join(f"The best epoch, {best['epoch'] + 1} of {epochs}, is at the end: train longer, as in ",
                   code(longer), ".")  # fmt: skip


def _overfitting(files: RunFiles) -> Iterator[Any]:
    best = _best_epoch(files)
    gap = 0.0 if best is None else (best.get("train_accuracy") or 0) - (best.get("validation_accuracy") or 0)
    if gap > OVERFITTED:
        yield (
            f"In the best epoch the training accuracy is {100 * gap:.1f} points above that of the validation: more "
            "readout.dropout, optimizer.weight_decay or augmentation, or a smaller readout, may generalise better."
        )


def _best_epoch(files: RunFiles) -> dict[str, Any] | None:
    sound = [epoch for epoch in files.metrics if isinstance(epoch["validation_loss"], int | float)]
    return best_epoch(sound)


def _better_baselines(files: RunFiles) -> Iterator[Any]:
    if files.test is None:
        return
    ridge, trees = files.test.get("ridge"), files.test.get("trees")
    if isinstance(ridge, dict) and ridge["correct"] > files.test["correct"]:
        text = "Ridge regression on the same states has more correct test samples, and is solved in one pass: "
        yield join(text, code('readout.kind = "ridge"'), ".")
    if isinstance(trees, dict) and trees.get("better") == "trees":
        yield "Boosted trees are better on these data: use them, unless you need a network."


def _test_unlike_validation(files: RunFiles) -> Iterator[Any]:
    validation = (files.states["train"].get("result") or {}).get("validation_accuracy")
    if files.test is None or not isinstance(validation, int | float):
        return
    low, high = wilson(files.test["correct"], files.test["samples"])
    if not low <= validation <= high:
        yield (
            f"The validation accuracy, {percent(validation, 2)}, is outside the interval of the test accuracy: the "
            "validation rows chose the model, or the two parts of the data differ."
        )


def _waiting(files: RunFiles) -> Iterator[Any]:
    result = files.states["train"].get("result") or {}
    names = ("compute_seconds", "wait_seconds", "communicate_seconds")
    parts = [float(np.sum(result.get(name) or 0)) for name in names]
    if sum(parts) > 0 and parts[1] > MUCH_WAITING * sum(parts):
        text = f"Ranks waited {percent(parts[1] / sum(parts))} of the training: "
        yield join(text, code("partition.load_balance"), " gives slower ranks fewer rows.")


RULES: Sequence[Callable[[RunFiles], Iterator[Any]]] = (
    _few_samples, _few_training_rows, _bounds, _still_improving, _failed_candidates, _longer_training, _overfitting,
    _better_baselines, _test_unlike_validation, _waiting,
)  # fmt: skip
