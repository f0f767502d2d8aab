"""Signals at random moments of stages and commands, which must then complete with the same results."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from campaign import hooks, runs
from campaign.children import Done, Signal, rcdp
from campaign.judge import TRACES, Judgement, Verdict, differences, last_line_of_trace, tail, where_it_was
from campaign.results import results
from campaign.runs import Command, Place
from campaign.trial import LIMIT, Outcome, Trial, load_or_make, reference

FRESH_TABLE = runs.command("run DATA/table.toml --out RUN", "shards", "search", "model", "metrics", "report")
FRESH_SERIES = runs.command("run DATA/series.toml --out RUN", "shards", "search", "model", "report")
PREPARE = runs.command("prepare DATA/table.toml --out RUN", "shards")
# (run, command, command that continues)
INTERRUPTED: Sequence[tuple[str, Command, Command]] = (
    ("fresh", PREPARE, PREPARE),
    ("fresh", FRESH_TABLE, FRESH_TABLE),
    ("fresh", FRESH_SERIES, FRESH_SERIES),
    ("search-stopped", runs.SEARCH, runs.SEARCH),
    ("training-stopped", runs.TRAIN, runs.TRAIN),
    ("training-killed", runs.TRAIN, runs.TRAIN),
    ("table", runs.TRAIN_AGAIN, runs.TRAIN),
    ("table", runs.SEARCH_AGAIN, runs.SEARCH),
    ("table", runs.EVALUATE, runs.EVALUATE),
    ("table", runs.PREDICT_TABLE, runs.PREDICT_TABLE),
    ("table", runs.SUBMIT, runs.SUBMIT),
    ("series", runs.TRAIN_AGAIN, runs.TRAIN),
    ("images", runs.PREDICT_IMAGES, runs.PREDICT_IMAGES),
    ("folds", runs.FOLDS, runs.FOLDS),
)
RUNS = tuple(dict.fromkeys(run for run, _, _ in INTERRUPTED))
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
ATTEMPTS = 6


def kill(trial: Trial) -> Outcome:
    """Send signals to a command in up to three of its starts, then run it to its end."""
    draw = trial.draw
    run, command, again = INTERRUPTED[trial.number % len(INTERRUPTED)]
    place = runs.copy(run, trial.place)
    events, seconds = length(trial.work, run, command)
    faults, next_command = [], command
    for _ in range(draw.choice((1, 1, 2, 3))):
        number = draw.choice(SIGNALS)
        name = signal.Signals(number).name
        if draw.random() < 0.65 and events:
            moment = draw.randrange(1, events + 1)
            faults.append(f"{name} at write {moment}")
            sent, before = None, hooks.send_at(number, moment, hooks.writes_in(str(place.folder)))
        else:
            after = draw.uniform(0, seconds)
            faults.append(f"{name} after {after:.2f} s")
            sent, before = Signal(number, after), None
        words = place.words(next_command.words)
        done = rcdp(words, place.folder, LIMIT, env=place.env, before=before, sent=sent)
        wrong = _wrong_end(done, number)
        if wrong:
            return trial.outcome(f"{run}: {', '.join(faults)}", next_command.name, wrong)
        next_command = again
        if done.code == 0:
            break
    judgement = resumed(trial.work, run, command, again, place)
    return trial.outcome(f"{run}: {', '.join(faults)}", command.name, judgement)


def _wrong_end(done: Done, number: int) -> Judgement | None:
    """Return the judgement on a wrong end of a command that received a signal; None for a correct end."""
    if done.timed_out:
        return Judgement(Verdict.HANG, f"not ended after {done.seconds:.0f} s; {where_it_was(done.text)}")
    if TRACES.search(done.text):
        return Judgement(Verdict.TRACEBACK, last_line_of_trace(done.text))
    # A signal may arrive before the command handles it, and commands without checkpoints end at once.
    if done.code not in (0, -number, 128 + number, 75):
        return Judgement(Verdict.UNCLEAR, f"exit code {done.code}: {tail(done.text)}")
    return None


def resumed(work: Path, run: str, command: Command, again: Command, place: Place) -> Judgement:
    """Run a command until it is done, and compare its results with those of a run without faults."""
    for _ in range(ATTEMPTS):
        done = place.rcdp(again.words, LIMIT)
        if done.timed_out:
            return Judgement(Verdict.HANG, f"resumed: not ended after {done.seconds:.0f} s; {where_it_was(done.text)}")
        if TRACES.search(done.text):
            return Judgement(Verdict.TRACEBACK, f"resumed: {last_line_of_trace(done.text)}")
        if done.code == 0:
            break
        if done.code != 75:
            return Judgement(Verdict.UNCLEAR, f"resumed: exit code {done.code}: {tail(done.text)}")
    else:
        return Judgement(Verdict.UNCLEAR, f"resumed: still not done after {ATTEMPTS} starts")
    expected, _ = reference(work, run, command)
    found = results(command.results, place, done.text)
    if differing := differences(found, expected):
        return Judgement(Verdict.SILENT, f"resumed: differs from the run without the fault: {', '.join(differing)}")
    if left := leftovers(place.run):
        return Judgement(Verdict.UNCLEAR, f"remaining files: {', '.join(left)}")
    return Judgement(Verdict.SURVIVED)


def leftovers(run: Path) -> list[str]:
    """Return locks and temporary files in a run directory that no process uses."""
    found = [path for path in run.rglob("*") if path.name == "lock" or path.name.endswith((".tmp", ".partial"))]
    return sorted(str(path.relative_to(run)) for path in found)


def length(work: Path, run: str, command: Command) -> tuple[int, float]:
    """Return the number of writes and the seconds of a command without a fault."""

    def make() -> tuple[int, float]:
        place = runs.copy(run, Place(work / "trials" / f"length-{os.getpid()}", work))
        counter = place.folder / "events"
        done = place.rcdp(command.words, before=hooks.count_into(str(counter), hooks.writes_in(str(place.folder))))
        events = counter.stat().st_size if counter.exists() else 0
        runs.remove(place)
        return events, done.seconds

    events, seconds = load_or_make(work, f"length {run} {command.name}", make)
    return events, seconds
