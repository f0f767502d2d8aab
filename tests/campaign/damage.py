"""Damage of one file of a run, then a command that reads it."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from campaign import directed, mutations, runs
from campaign.judge import judge
from campaign.runs import Command
from campaign.trial import LIMIT, Outcome, Trial, compared

# Where a file is decides who reads it; elsewhere every command may.
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
RUNS = tuple(runs.RUNS)


def files_of(work: Path) -> list[tuple[str, str]]:
    """Return (run, file) of everything that can be damaged: all files of all runs, the users' code included."""
    found = []
    for run in RUNS:
        folder = work / "runs" / run
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            # Half-written files have random names.
            kept = path.is_file() and not path.name.startswith(".") and "__pycache__" not in name
            if kept and (name.startswith("run/") or (run == "code" and name.startswith("code/"))):
                found.append((run, name))
    return found


def damage(trial: Trial) -> Outcome:
    """Damage a file, run a command, compare its results with those of the undamaged run."""
    files = files_of(trial.work)
    random.Random(trial.seed).shuffle(files)
    # In turns, so that every file is drawn.
    run, name = files[trial.number % len(files)]
    place = runs.copy(run, trial.place)
    command = _command(trial, run, name)
    path = place.folder / name
    before, meaning = path.read_bytes(), _meaning(path)
    what = _damage(path, [place.folder / other for of, other in files if of == run and other != name], trial.draw)
    done = place.rcdp(command.words, LIMIT)
    differing, peak = compared(trial.work, run, command, place, done)
    changed = _meaning(path) != meaning
    if not path.is_file() or path.read_bytes() == before or _was_not_touched(path, name, differing):
        differing = [one for one in differing if one != name.removeprefix("run/")]
    lie = "it says that all is well" if command == runs.VERIFY and name.startswith("run/shards/") and changed else ""
    judgement = judge(
        done, names=_names(name), codes=(2, 3), differences=differing, must_refuse=lie, base_peak=peak
    )  # fmt: skip
    return trial.outcome(f"{run}/{name}: {what}", command.name, judgement)


def _command(trial: Trial, run: str, name: str) -> Command:
    commands = runs.RUNS[run].commands
    readers = next((readers for start, readers in READ_BY if name.startswith(start)), ())
    near = [command for command in commands if command in readers]
    return trial.draw.choice(near if near and trial.draw.random() < 0.9 else list(commands))


def _damage(path: Path, others: Sequence[Path], draw: random.Random) -> str:
    kind = draw.choices(("bytes", "directed", "swap"), (50, 45, 5))[0]
    if kind == "swap":
        same = [other for other in others if other.suffix == path.suffix]
        return mutations.swap(path, same or others, draw)
    what = directed.change(path, draw) if kind == "directed" else None
    return what or mutations.mutate(path, draw)


def _was_not_touched(path: Path, name: str, differing: Sequence[str]) -> bool:
    """Whether a damaged file that counts as a result is still what the damage left: then nobody wrote it."""
    return name.removeprefix("run/") in differing and os.stat(path).st_mtime < _started(path)


def _started(path: Path) -> float:
    output = next(parent / "output" for parent in path.parents if (parent / "output").exists())
    return output.stat().st_ctime


def _meaning(path: Path) -> object:
    """Return what a file says: of JSON the value, of others the bytes, None if there is none."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    try:
        return json.loads(data) if path.suffix == ".json" else data
    except (ValueError, RecursionError):
        return data


def _names(name: str) -> list[str]:
    path = Path(name)
    # A whole folder may be named for a file that is missing in it; code is named as the configuration names it.
    return [path.name, path.stem] if path.suffix == ".py" else [path.name]


def drop(trial: Trial) -> None:
    """Remove the folder of a trial that needs no look."""
    shutil.rmtree(trial.place.folder, ignore_errors=True)
