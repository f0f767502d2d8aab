"""Trials, their outcomes, and the results of undamaged runs with which they are compared."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from campaign import runs
from campaign.children import Done
from campaign.judge import Judgement, Verdict
from campaign.results import Found, results
from campaign.runs import Command, Place

# Seconds before a command counts as hanging. On a busy machine a command takes ten times as long as on an idle one.
LIMIT = 60.0


@dataclass(frozen=True)
class Outcome:
    """The outcome of a trial.

    Attributes
    ----------
    kind : str
    number : int
        Number of the trial, which repeats it together with the seed of the campaign.
    fault : str
        The injected fault and its place.
    command : str
        The command that met the fault.
    verdict : Verdict
    why : str
    """

    kind: str
    number: int
    fault: str
    command: str
    verdict: Verdict
    why: str = ""

    def save(self, path: Path) -> None:
        """Write the outcome as JSON, atomically."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self)))
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> Outcome:
        """Read an outcome that `save` has written."""
        content = json.loads(path.read_text())
        return cls(**{**content, "verdict": Verdict(content["verdict"])})


@dataclass(frozen=True)
class Trial:
    """The inputs of a trial.

    Attributes
    ----------
    kind : str
    number : int
    draw : random.Random
        Depends only on the seed of the campaign, the kind and the number.
    work : Path
        Folder of the campaign.
    seed : int
        Seed of the campaign.
    """

    kind: str
    number: int
    draw: random.Random
    work: Path
    seed: int

    @property
    def place(self) -> Place:
        """The folder of the trial."""
        return Place(self.work / "trials" / f"{self.kind}-{self.number}", self.work)

    def outcome(self, fault: str, command: str, judgement: Judgement) -> Outcome:
        """Return the outcome of the trial."""
        return Outcome(self.kind, self.number, fault, command, judgement.verdict, judgement.why)


def trial_of(kind: str, number: int, work: Path, seed: int) -> Trial:
    """Return the trial of this kind and number."""
    return Trial(kind, number, random.Random(f"{seed} {kind} {number}"), work, seed)


@dataclass(frozen=True)
class Kind:
    """A kind of trials.

    Attributes
    ----------
    meaning : str
        What is injected.
    run : callable
        Runs one trial.
    share : float
        Share of all trials.
    limit : float
        Time limit of a trial in seconds.
    needs : callable
        Returns why this machine cannot run such trials; empty if it can.
    runs : tuple of str
        Names of the runs that the trials copy.
    """

    meaning: str
    run: Callable[[Trial], Outcome]
    share: float
    limit: float = 4 * LIMIT
    needs: Callable[[], str] = lambda: ""
    runs: tuple[str, ...] = ()


def reference(work: Path, run: str, command: Command) -> tuple[Found, int]:
    """Return the results of a command on an undamaged copy of a run, and its peak memory in MiB."""
    found, peak = load_or_make(work, f"{run} {command.name}", lambda: _measured(work, run, command))
    return found, peak


def load_or_make(work: Path, title: str, make: Callable[[], Any]) -> Any:
    """Return a JSON value that trials share and that the first trial that needs it computes."""
    path = work / "references" / f"{re.sub(r'[^a-zA-Z0-9]+', '-', title)}.json"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(make()))
        os.replace(part, path)
    return json.loads(path.read_text())


def _measured(work: Path, run: str, command: Command) -> tuple[Found, int]:
    place = runs.copy(run, Place(work / "trials" / f"reference-{os.getpid()}", work))
    done = place.rcdp(command.words)
    if done.code or done.timed_out:
        raise RuntimeError(f"without a fault, {command.name} on {run} ended with {done.code}:\n{done.text[-3000:]}")
    found = results(command.results, place, done.text)
    shutil.rmtree(place.folder)
    return found, done.peak


def compared(work: Path, run: str, command: Command, place: Place, done: Done) -> tuple[list[str], int]:
    """Return the results that differ from those of an undamaged run, and the peak memory of that run in MiB."""
    expected, peak = reference(work, run, command)
    if done.code:
        return [], peak
    found = results(command.results, place, done.text)
    return [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)], peak
