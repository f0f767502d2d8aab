"""Damage of one file of a run, followed by a command that reads it."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from campaign import directed, mutations, runs
from campaign.judge import judge
from campaign.runs import Command
from campaign.trial import LIMIT, Outcome, Trial, compared

# Commands that read a file, by the start of its path. Files elsewhere are tried with every command.
READ_BY: Sequence[tuple[str, tuple[Command, ...]]] = (
    ("run/shards/", (runs.VERIFY, runs.INSPECT, *runs.STAGES, runs.SEARCH, runs.TRAIN, runs.MORE_EPOCHS)),
    ("run/state/", (runs.STATUS, *runs.STAGES, runs.SEARCH, runs.TRAIN, runs.PLAN)),
    ("run/search/", (runs.SEARCH, runs.SEARCH_REPORT, runs.TRAIN_AGAIN, runs.TRAIN, runs.MORE_EPOCHS, runs.STATUS)),
    ("run/train/", (runs.TRAIN, runs.MORE_EPOCHS, runs.EVALUATE, runs.PREDICT_TABLE, runs.PREDICT_SERIES, runs.STATUS)),
    ("run/report/", (runs.STATUS, runs.EVALUATE, runs.RUN_ALL)),
    ("run/jobs/", (runs.STATUS, runs.SUBMIT, runs.DRY_RUN)),
    ("run/fold-", (runs.FOLDS, runs.STATUS)),
    ("code/", (*runs.STAGES, runs.MORE_EPOCHS, runs.PREDICT_TABLE)),
)
RUNS = tuple(name for name in runs.RUNS if name not in ("fresh", "prepared"))
PRINTING = (runs.STATUS, runs.INSPECT, runs.PLAN, runs.SEARCH_REPORT)
CODE = "code/campaign_user.py"


def files_of(work: Path) -> list[tuple[str, str]]:
    """Return (run, file) of all files that can be damaged, including the code of the user."""
    found = []
    for run in RUNS:
        folder = work / "runs" / run
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            # Incomplete files have random names and are skipped.
            if name.startswith(("run/", "cache/")) and path.is_file() and not path.name.startswith("."):
                found.append((run, name))
    return [*found, ("code", CODE)]


def damage(trial: Trial) -> Outcome:
    """Damage a file, run a command, and compare its results with those of the undamaged run."""
    files = files_of(trial.work)
    random.Random(trial.seed).shuffle(files)
    # In turn, so that every file is damaged.
    run, name = files[trial.number % len(files)]
    place = runs.copy(run, trial.place)
    command = _command(trial, run, name)
    path = place.folder / name
    if name == CODE:
        shutil.copytree(place.data / "code", path.parent, ignore=shutil.ignore_patterns("__pycache__"))
    meaning = _meaning(path)
    what = _damage(path, [place.folder / other for of, other in files if of == run and other != name], trial.draw)
    damaged, changed = _content(path), _meaning(path) != meaning
    done = place.rcdp(command.words, LIMIT)
    differing, peak = compared(trial.work, run, command, place, done)
    # A damaged file that the command has not written is not a result.
    if _content(path) == damaged:
        differing = [one for one in differing if one != name.removeprefix("run/")]
    # Commands that only print may treat a missing file as not yet written.
    if command in PRINTING and not path.exists():
        differing = []
    false_report = "it finds nothing" if command == runs.VERIFY and name.startswith("run/shards/") and changed else ""
    judgement = judge(
        done, names=_names(name, what), codes=(2, 3), differences=differing, must_refuse=false_report, base_peak=peak,
        several=command == runs.VERIFY,
    )  # fmt: skip
    return trial.outcome(f"{run}/{name}: {what}", command.name, judgement)


def _command(trial: Trial, run: str, name: str) -> Command:
    commands = runs.RUNS[run].commands
    readers = next((readers for start, readers in READ_BY if name.startswith(start)), ())
    near = [command for command in commands if command in readers]
    drawn = near if near and trial.draw.random() < 0.9 else list(commands)
    return trial.draw.choices(drawn, [1 if command in runs.READERS else 4 for command in drawn])[0]


def _damage(path: Path, others: Sequence[Path], draw: random.Random) -> str:
    kind = draw.choices(("bytes", "directed", "swap"), (50, 45, 5))[0]
    if kind == "swap":
        same = [other for other in others if other.suffix == path.suffix]
        return mutations.swap(path, same or others, draw)
    what = directed.change(path, draw) if kind == "directed" else None
    return what or mutations.mutate(path, draw)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _meaning(path: Path) -> object:
    """Return the JSON value or the bytes of a file; None if it does not exist."""
    data = _content(path)
    try:
        return json.loads(data) if path.suffix == ".json" and data is not None else data
    except (ValueError, RecursionError):
        return data


def _names(name: str, what: str) -> list[str]:
    """Return names of which a message must contain one: the file, a changed key, a module."""
    path, key = Path(name), re.match(r"line \d+, (\w+): ", what)
    if path.suffix == ".py":
        return [path.name, path.stem]
    return [path.name, key.group(1)] if path.name == "config.toml" and key else [path.name]
