"""``make campaign``: inject faults, count the results, print a table and how to repeat each fault."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from campaign import report, runs
from campaign.children import fork, import_everything
from campaign.disks import unmount_below
from campaign.judge import FAULTS, Verdict
from campaign.kinds import KINDS
from campaign.trial import Outcome, Trial, trial_of

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; return 1 if a trial was silent, a traceback or a hang, and 0 otherwise."""
    options = parse(arguments)
    started = time.monotonic()
    work = Path(options.work or tempfile.mkdtemp(prefix="rcdp-campaign-")).absolute()
    import_everything()
    plan = list(planned(options.kinds, options.trials, options.repeat))
    build(sorted({run for kind, _ in plan for run in KINDS[kind].runs}), work, options.jobs)
    print(
        f"seed {options.seed}, {len(plan)} trials, in {work}; ready after {time.monotonic() - started:.0f} s",
        flush=True,
    )
    deadline = started + options.seconds if options.seconds else None
    try:
        trials = [trial_of(kind, number, work, options.seed) for kind, number in plan]
        outcomes = carry_out(trials, options.jobs, deadline)
    finally:
        unmount_below(work)
    faults = report.faults(outcomes, options.seed, work)
    print(f"\n{faults}\n" if faults else "", report.table(outcomes), sep="\n")
    print(
        f"{len(outcomes)} of {len(plan)} trials in {time.monotonic() - started:.0f} s, seed {options.seed}", flush=True
    )
    if not faults and not options.work:
        shutil.rmtree(work)
    return int(report.failed(outcomes))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="seed of all random choices")
    parser.add_argument("--trials", type=int, default=2000, help="total number of trials of all kinds")
    parser.add_argument("--seconds", type=float, default=0, help="start no trial after this time; 0 means no limit")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"comma-separated list of {', '.join(KINDS)}")
    parser.add_argument("--repeat", default="", metavar="KIND-NUMBER", help="run only this trial and keep its folder")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="number of concurrent trials")
    parser.add_argument("--work", default="", help="folder of the campaign, which is kept; default: a temporary one")
    options = parser.parse_args(arguments)
    options.kinds = options.kinds.split(",")
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"--kinds {','.join(sorted(unknown))}: expected {', '.join(KINDS)}")
    return options


def say(text: str) -> None:
    """Print a line without buffering."""
    print(text, flush=True)


def planned(kinds: Sequence[str], count: int, repeat: str) -> Iterator[tuple[str, int]]:
    """Yield (kind, number) of the trials; kinds alternate, so each has its share at any time."""
    if repeat:
        kind, _, number = repeat.rpartition("-")
        yield kind, int(number)
        return
    kinds = [kind for kind in kinds if not missing(kind)]
    shares = {kind: KINDS[kind].share for kind in kinds}
    done = dict.fromkeys(kinds, 0)
    for _ in range(count if kinds else 0):
        kind = min(kinds, key=lambda kind: (done[kind] + 0.5) / shares[kind])
        yield kind, done[kind]
        done[kind] += 1


def missing(kind: str) -> bool:
    """Return whether this machine cannot run trials of a kind, and print why."""
    why = KINDS[kind].needs()
    if why:
        print(f"no trials of kind {kind}: {why}", flush=True)
    return bool(why)


def build(names: Sequence[str], work: Path, jobs: int) -> None:
    """Build the runs that trials copy, unless an earlier campaign in this folder has built them."""
    work.mkdir(parents=True, exist_ok=True)
    for name in ("trials", "outcomes"):
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir(exist_ok=True)
    if not (work / "data").exists():
        runs.begin(work)
    wanted = [name for name in names if not (work / "runs" / name).exists()]

    def build_one(name: str) -> int:
        runs.build(name, work)
        return 0

    failed = [name for name, code in in_parallel(wanted, build_one, jobs, 600.0) if code]
    if failed:
        shutil.rmtree(work / "runs")
        raise SystemExit(f"the runs {', '.join(failed)} failed without any fault: see above")


def carry_out(trials: Sequence[Trial], jobs: int, deadline: float | None) -> list[Outcome]:
    """Run all trials until the deadline and return their outcomes."""
    outcomes = []

    def one(trial: Trial) -> int:
        KINDS[trial.kind].run(trial).save(_saved(trial))
        return 0

    limit = max((KINDS[trial.kind].limit for trial in trials), default=0.0)
    for trial, _ in in_parallel(_until(deadline, trials), one, jobs, limit):
        outcome = _outcome(trial)
        outcomes.append(outcome)
        if outcome.verdict in FAULTS:
            print(f"{outcome.verdict}: {outcome.kind}-{outcome.number}: {outcome.fault}; {outcome.command}", flush=True)
        elif len(trials) > 1:
            runs.remove(trial.place)
        else:
            print(f"{outcome.verdict}: {outcome.fault}; rcdp {outcome.command}\nleft in {trial.place.folder}")
    return outcomes


def _saved(trial: Trial) -> Path:
    return trial.work / "outcomes" / f"{trial.kind}-{trial.number}.json"


def _outcome(trial: Trial) -> Outcome:
    if _saved(trial).exists():
        return Outcome.load(_saved(trial))
    return Outcome(trial.kind, trial.number, "?", "?", Verdict.BROKEN, "the trial itself failed: see above")


def _until(deadline: float | None, items: Iterable[T]) -> Iterator[T]:
    for item in items:
        if deadline is not None and time.monotonic() > deadline:
            return
        yield item


def in_parallel(items: Iterable[T], work: Callable[[T], int], jobs: int, limit: float) -> Iterator[tuple[T, int]]:
    """Call `work` for each item in a child process, `jobs` at a time; yield each item with the child's exit code."""
    running: dict[int, tuple[T, float]] = {}
    waiting = iter(items)
    more = True
    while more or running:
        while more and len(running) < jobs:
            item = next(waiting, None)
            if item is None:
                more = False
                break
            running[fork(lambda item=item: work(item))] = item, time.monotonic() + limit
        pid, status = os.waitpid(-1, os.WNOHANG) if running else (0, 0)
        if pid:
            yield running.pop(pid)[0], os.waitstatus_to_exitcode(status)
            continue
        for late in [pid for pid, (_, end) in running.items() if time.monotonic() > end]:
            os.kill(late, signal.SIGKILL)
        time.sleep(0.005)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        traceback.print_exc(limit=0)
        sys.exit(130)
