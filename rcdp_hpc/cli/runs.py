"""Lines of ``rcdp status`` for the runs in a folder, and texts about results of stages."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rcdp_hpc.cli.checks import existing_run
from rcdp_hpc.cli.comparison_state import comparison_state
from rcdp_hpc.cli.progress import stage_progress
from rcdp_hpc.config import STAGES
from rcdp_hpc.config.choices.chosen_by import criterion_value
from rcdp_hpc.errors import InputError, RcdpError
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.lock_file import current_holder
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import plain_name, shell_word

# Depth to which folders are searched for runs: runs/mnist/first.
DEPTH = 3


def is_run(path: Path) -> bool:
    """Return whether a folder is the run directory of a run, a cross-validation or a job array."""
    run = RunDirectory(path)
    files = (run.config_file, run.state_file("prepare").parent, run.jobs, run.lock, run.log, run.model)
    return any(os.path.lexists(file) for file in files) or bool(run.folds() or run.tasks())


def reported_run(path: Path) -> RunDirectory:
    """Return the run directory of a report.

    Raises
    ------
    InputError
        If the folder is not a run directory. The message names the runs in it.
    """
    run = existing_run(path)
    if is_run(path):
        return run
    runs = find_runs(path)
    example = shell_word(runs[0].path) if runs else "RUN"
    contains = f"it contains {len(runs)}: rcdp report {example}" if runs else f"expected rcdp report {example}"
    raise InputError(f"{path}: not a run directory; {contains}.")


def find_runs(folder: Path, depth: int = DEPTH) -> list[RunDirectory]:
    """Return the run directories in a folder, by name."""
    runs: list[RunDirectory] = []
    for path in sorted(folder.iterdir()):
        # A link may lead to a parent folder.
        if not path.is_dir() or path.is_symlink() or path.name.startswith("."):
            continue
        if is_run(path):
            runs.append(RunDirectory(path))
        elif depth > 1:
            runs += find_runs(path, depth - 1)
    return runs


def run_lines(folder: Path, runs: list[RunDirectory]) -> Iterator[str]:
    """Yield a header and a line for each run: name, accuracy, macro F1, age and state."""
    width = max(3, *(len(str(run.path.relative_to(folder))) for run in runs))
    yield f"{'run':<{width}}  accuracy  macro F1  last change   state"
    for run in runs:
        name = str(run.path.relative_to(folder))
        try:
            scores, state = _scores(run), _state(run)
        except (RcdpError, OSError, KeyError) as error:
            # The other runs are still listed.
            scores, state = {}, f"cannot be read: {error}"
        accuracy = f"{100 * scores['accuracy']:.2f} %" if "accuracy" in scores else "-"
        macro_f1 = f"{scores['macro_f1']:.4f}" if "macro_f1" in scores else "-"
        yield f"{name:<{width}}  {accuracy:>8}  {macro_f1:>8}  {_age(run):<12}  {state}"


def _scores(run: RunDirectory) -> dict[str, float]:
    """Return the test scores of a run, or their mean for a cross-validation; empty if there are none yet."""
    result = run.state("evaluate").get("result")
    if isinstance(result, dict):
        return result
    summary = run.report / "summary.json"
    if summary.exists() and run.folds():
        mean = read_sealed(summary).get("mean", {})
        return mean if isinstance(mean, dict) else {}
    return {}


def _state(run: RunDirectory) -> str:
    if run.plan.exists():
        return comparison_state(run)
    parts = run.folds() or run.tasks()
    if parts:
        done = sum(part.state("evaluate").get("status") == "done" for part in parts)
        kind = "folds" if run.folds() else "tasks"
        expected = run.config().data.folds if run.folds() and run.config_file.exists() else 0
        return f"{done} of {max(expected, len(parts))} {kind} done"
    states = {stage: run.state(stage).get("status") for stage in STAGES}
    if states["evaluate"] == "done":
        return "done"
    # The last started stage decides the state.
    started = [stage for stage in STAGES if states[stage]]
    if not started:
        return "jobs were submitted" if run.submitted.exists() else "not started"
    stage = started[-1]
    if states[stage] == "done":
        return f"{stage} done"
    if states[stage] != "running":
        return f"{stage} {states[stage]}"
    if current_holder(run.lock) is None:
        return f"{stage} was killed"
    progress = stage_progress(run, stage)
    return f"{stage} running" + (f": {progress.with_time}" if progress else "")


def _age(run: RunDirectory) -> str:
    parts = [run, *run.folds(), *run.tasks()]
    files = [file for part in parts for file in (part.state_file("x").parent, part.log, part.config_file)]
    times = [file.stat().st_mtime for file in files if file.exists()]
    if not times:
        return "-"
    return f"{duration(max(0.0, time.time() - max(times)))} ago"


def duration(seconds: float) -> str:
    """Return a duration as text, in a suitable unit."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"


def result_text(stage: str, result: Any) -> str:
    """Return the result of a stage as text that starts with a colon; empty if there is no result."""
    if not isinstance(result, dict) or not result:
        return ""
    texts = {"prepare": _prepared, "search": _searched, "train": _trained, "evaluate": _evaluated}
    try:
        return f": {texts[stage](result)}"
    except (KeyError, TypeError):
        # The result is from another version of rcdp.
        parts = [f"{name} {value}" for name, value in result.items() if isinstance(value, int | float | str)]
        return f": {', '.join(parts)}" if parts else ""


def _prepared(result: dict[str, Any]) -> str:
    names = {"train": "training", "validation": "validation", "test": "test"}
    return ", ".join(f"{rows} {names.get(split, split)}" for split, rows in result.items()) + " rows"


def _searched(result: dict[str, Any]) -> str:
    meaning = result.get("meaning", "")
    named = f" ({plain_name(meaning)})" if meaning and not meaning.startswith("1/E") else ""
    text = f"best fitness {result['fitness']:.5g}{named} of {result['evaluations']} candidates"
    accuracy = result.get("accuracy")
    return text if accuracy is None else f"{text}, validation accuracy {100 * accuracy:.2f} %"


def _trained(result: dict[str, Any]) -> str:
    accuracy = f"validation accuracy {100 * result['validation_accuracy']:.2f} %"
    if not result.get("epochs"):
        return accuracy
    chosen = ""
    if "validation_fitness" in result:
        name = result["criterion"]
        chosen = f", {plain_name(name)} {criterion_value(name, result['validation_fitness']):.4f}"
    return f"best epoch {result['best_epoch']} of {result['epochs']}, {accuracy}{chosen}"


def _evaluated(result: dict[str, Any]) -> str:
    text = f"accuracy {100 * result['accuracy']:.2f} %"
    if "samples" in result:
        text += f" ({result['correct']} of {result['samples']})"
    return text + (f", macro F1 {result['macro_f1']:.4f}" if "macro_f1" in result else "")
