"""Signals to real ranks: stopped and killed ranks. Each trial starts mpirun, so there are few."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
from launch import mpirun, rcdp, start_ranks

from campaign import kills, runs
from campaign.children import Done
from campaign.judge import TRACES, Judgement, Verdict, differences, judge, last_line_of_trace, tail
from campaign.results import results
from campaign.runs import Command, Place
from campaign.trial import Outcome, Trial, load_or_make

RANKS = 2
ENGINES = ("horovod", "torch")
STALL = 10
# Seconds to start and end ranks on a busy machine.
START = 120.0
# Sends a signal to a rank, when it opens its n-th file of the run, or some time after it has joined the other ranks.
HOOK = """
import os, sys, threading

number, rank, moment, after, folder = os.environ["RCDP_CAMPAIGN_SIGNAL"].split(" ", 4)
seen = 0


def send():
    global moment
    if moment != "sent":
        moment = "sent"
        os.kill(os.getpid(), int(number))


def hook(event, arguments):
    global seen
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(folder):
        seen += 1
        if str(seen) == moment:
            send()
    elif event == "import" and arguments[0] == "rcdp_hpc.runtime.comm.mpi" and float(after):
        timer = threading.Timer(float(after), send)
        timer.daemon = True
        timer.start()


if os.environ.get("OMPI_COMM_WORLD_RANK") == rank:
    sys.addaudithook(hook)
"""
LONG_SEARCH = runs.command("search DATA/long.toml --out RUN", "search")
LONG_TRAINING = runs.command("train DATA/long.toml --out RUN --set search.generations=0", "model")
# (run, command). Long commands are stopped after a time, the others when they open a file.
STOPPED: Sequence[tuple[str, Command]] = (
    ("prepared", LONG_SEARCH),
    ("prepared", LONG_TRAINING),
    ("fresh", kills.PREPARE),
    ("table", runs.EVALUATE),
    ("table", runs.PREDICT_TABLE),
    ("fresh", runs.FOLDS),
    ("fresh", kills.FRESH_TABLE),
    ("table", runs.VERIFY),
)
KILLED: Sequence[tuple[str, Command]] = (
    ("search-stopped", runs.SEARCH),
    ("prepared", runs.command("run DATA/table.toml --out RUN", "search", "model")),
    ("table", runs.EVALUATE),
    ("fresh", kills.PREPARE),
    ("table", runs.PREDICT_TABLE),
)
RUNS = tuple(dict.fromkeys(run for run, _ in (*STOPPED, *KILLED)))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


def cannot_start() -> str:
    """Return why this machine cannot start ranks; empty if it can."""
    return "" if shutil.which(str(mpirun())) else "there is no mpirun"


def stop(trial: Trial) -> Outcome:
    """Stop one of two ranks forever; the job must end by itself and name the rank."""
    draw = trial.draw
    run, command = STOPPED[trial.number % len(STOPPED)]
    command = _on_an_engine(command, trial.number // len(STOPPED))
    place = runs.copy(run, trial.place)
    rank = draw.randrange(RANKS)
    long = "DATA/long.toml" in command.words
    moment = 0 if long else draw.randrange(1, 8)
    after = draw.uniform(0.5, 5) if long else 2.0
    words = [*command.words, *(("--set", f"run.stall_seconds={STALL}") if _has_settings(command) else ())]
    done = _started(place, words, (signal.SIGSTOP, rank, moment, after), START + STALL)
    fault = (
        f"{run}: rank {rank} stopped at file {moment}" if moment else f"{run}: rank {rank} stopped after {after:.1f} s"
    )
    judgement = judge(done, names=[f"rank {rank}"], codes=(1,))
    if done.code == 0:
        judgement = Judgement(Verdict.SURVIVED, "the command had ended before")
    return trial.outcome(fault, " ".join(words), judgement)


def _on_an_engine(command: Command, number: int) -> Command:
    """Return a command that trains with Horovod and torch.distributed in turn, if it has settings."""
    if not _has_settings(command):
        return command
    return replace(command, words=(*command.words, "--set", f"parallel.engine={ENGINES[number % len(ENGINES)]}"))


def _has_settings(command: Command) -> bool:
    return command.words[0] not in ("predict", "verify")


def kill_rank(trial: Trial) -> Outcome:
    """Send a signal to one of two ranks, then start both again until they are done: the results must be equal."""
    draw = trial.draw
    run, command = KILLED[trial.number % len(KILLED)]
    command = _on_an_engine(command, trial.number // len(KILLED))
    place = runs.copy(run, trial.place)
    rank, number, moment = draw.randrange(RANKS), draw.choice(SIGNALS), draw.randrange(1, 40)
    after = draw.choice((0.0, draw.uniform(0.1, 3)))
    done = _started(place, command.words, (number, rank, moment, after), START)
    name = signal.Signals(number).name
    fault = f"{run}: {name} to rank {rank} at file {moment}" + (f" or after {after:.1f} s" if after else "")
    if done.timed_out:
        return trial.outcome(fault, command.name, Judgement(Verdict.HANG, f"not ended after {done.seconds:.0f} s"))
    if TRACES.search(done.text):
        return trial.outcome(fault, command.name, Judgement(Verdict.TRACEBACK, last_line_of_trace(done.text)))
    return trial.outcome(fault, command.name, _resumed(trial.work, run, command, place))


def _resumed(work: Path, run: str, command: Command, place: Place) -> Judgement:
    for _ in range(3):
        done = _started(place, command.words, None, START)
        if done.timed_out:
            return Judgement(Verdict.HANG, f"resumed: not ended after {done.seconds:.0f} s")
        if done.code == 0:
            break
    else:
        return Judgement(Verdict.UNCLEAR, f"resumed: exit code {done.code}: {tail(done.text)}")
    if differing := differences(results(command.results, place, done.text), _expected(work, run, command)):
        return Judgement(Verdict.SILENT, f"resumed: differs from the run without the fault: {', '.join(differing)}")
    left = kills.leftovers(place.run)
    return Judgement(Verdict.UNCLEAR, f"remaining files: {', '.join(left)}") if left else Judgement(Verdict.SURVIVED)


def _expected(work: Path, run: str, command: Command) -> dict[str, str]:
    """Return the results of a command on two ranks without a fault."""

    def make() -> dict[str, str]:
        place = runs.copy(run, Place(work / "trials" / f"ranks-{run}-{os.getpid()}", work))
        done = _started(place, command.words, None, START)
        if done.code:
            raise RuntimeError(f"without a fault, {command.name} on {RANKS} ranks ended with {done.code}:\n{done.text}")
        found = results(command.results, place, done.text)
        runs.remove(place)
        return found

    found: dict[str, str] = load_or_make(work, f"{RANKS} ranks {run} {command.name}", make)
    return found


def _started(place: Place, words: Sequence[str], sent: tuple[int, int, int, float] | None, limit: float) -> Done:
    """Run a command on the ranks, send a signal to one of them, and kill processes that run after the limit."""
    env = dict(place.env)
    if sent is not None:
        hook = place.folder / "hook"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(HOOK)
        env["RCDP_CAMPAIGN_SIGNAL"] = " ".join([*map(str, sent), str(place.run)])
        env["PYTHONPATH"] = f"{hook}{os.pathsep}{env['PYTHONPATH']}"
    # The package that this process has imported.
    env["PYTHONPATH"] += f"{os.pathsep}{Path(sys.modules['rcdp_hpc'].__file__ or '').parents[1]}"
    os.chdir(place.folder)
    process = start_ranks(RANKS, rcdp(*place.words(words)), env)
    timed_out = False
    try:
        text, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        timed_out = True
        for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            child.kill()
        text, _ = process.communicate()
    (place.folder / "output").write_text(text)
    return Done(process.returncode, timed_out, text, limit, 0)
