"""Several concurrent commands in one run directory."""

from __future__ import annotations

import time
from collections.abc import Sequence

from campaign import kills, runs
from campaign.children import Done, start
from campaign.judge import FAULTS, Judgement, Verdict, judge
from campaign.runs import Command
from campaign.trial import LIMIT, Outcome, Trial

STAGE_COMMANDS = (runs.TRAIN_AGAIN, runs.SEARCH_AGAIN, runs.EVALUATE, runs.RUN_ALL)
READING = (runs.STATUS, runs.VERIFY, runs.PREDICT_TABLE, runs.INSPECT)
RUNS = ("fresh", "table", "training-killed", "search-stopped")
# Words of which the message of a refused command must contain one.
LOST = ("in use by", "model.pt", "no search has finished", "not a run directory", "index.json")


def race(trial: Trial) -> Outcome:
    """Start two to four commands at once, wait for all, then check that the run can be completed with equal results."""
    draw = trial.draw
    run, command, again, racing = _drawn(trial)
    place = runs.copy(run, trial.place)
    started = []
    for number, one in enumerate(racing):
        time.sleep(draw.choice((0.0, 0.0, 0.0, draw.uniform(0, 0.5))))
        words = place.words(_own_output(one, number))
        started.append(start(words, place.folder, 2 * LIMIT, env=place.env, name=f"output-{number}"))
    ended = [child.wait() for child in started]
    fault = f"{run}: {len(ended)} at once: {'; '.join(one.name for one in racing)}"
    judgements = [_judged(one, done) for one, done in zip(racing, ended, strict=True)]
    for one, judgement in zip(racing, judgements, strict=True):
        if judgement.verdict in FAULTS:
            return trial.outcome(fault, one.name, judgement)
    if all(done.code for done in ended):
        return trial.outcome(fault, command.name, Judgement(Verdict.UNCLEAR, "all of them were refused"))
    judgement = kills.resumed(trial.work, run, command, again, place)
    if judgement.verdict is Verdict.SURVIVED:
        judgement = next((one for one in judgements if one.verdict is Verdict.REPORTED), judgement)
    return trial.outcome(fault, command.name, judgement)


def _drawn(trial: Trial) -> tuple[str, Command, Command, Sequence[Command]]:
    """Return the run, the command whose results count, the one that completes it, and those that race."""
    draw, run = trial.draw, RUNS[trial.number % len(RUNS)]
    if run != "table":
        command = {"fresh": kills.FRESH_TABLE, "training-killed": runs.TRAIN, "search-stopped": runs.SEARCH}[run]
        others = [command, command, runs.STATUS] if run != "fresh" else [command, command]
        return run, command, command, [command, *(draw.choice(others) for _ in range(draw.randrange(1, 4)))]
    command = draw.choice(STAGE_COMMANDS)
    others = (*READING, *READING, command)
    again = {runs.TRAIN_AGAIN: runs.TRAIN, runs.SEARCH_AGAIN: runs.SEARCH}.get(command, command)
    return run, command, again, [command, *(draw.choice(others) for _ in range(draw.randrange(1, 4)))]


def _own_output(command: Command, number: int) -> list[str]:
    return [word.replace("OUT.csv", f"OUT-{number}.csv") for word in command.words]


def _judged(command: Command, done: Done) -> Judgement:
    # A command that reads while another writes may report a missing file.
    return judge(done, names=LOST, codes=(2, 3) if command in READING else (2,))
