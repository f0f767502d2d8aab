"""Classification of series: rcdp with its defaults, next to other methods, on sets with a given test part.

    python benchmarks/series.py SETS... --results series.jsonl [--seeds 3] [--methods rcdp]
    python benchmarks/series.py SETS... --results series.jsonl --rivals-python PYTHON --methods rcdp minirocket dtw

SETS are folders with NAME_TRAIN.ts and NAME_TEST.ts, folders of such folders, or tar archives of them. The packages
aeon and sktime include some in their folder datasets/data. A set that occurs twice is used once.

A method is `rcdp` (settings: the path and the seed) or `rcdp:PROFILE` (a shipped profile), either with settings to
change ("rcdp reservoir.nodes=200"), or a rival of benchmarks/series_rivals.py. PYTHON runs the rivals: an interpreter
with aeon 1.6, and with reservoirpy 0.4 and reservoir-computing 1.0 for their reservoirs.

Each measurement is one process with one thread. Its CPU seconds include imports, reading, training and test, and for
rcdp the report. Results are appended to --results and are not measured again (--again METHOD repeats them). A
measurement that exceeds --limit CPU seconds is stopped and counts as missing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RIVALS = ("minirocket", "multirocket-hydra", "dtw", "reservoirpy-last", "reservoirpy-mean", "rc-mean", "rc-model-space")
REFERENCE = "minirocket"
LARGE_DEFICIT = 10.0  # points
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
Result = dict[str, Any]


def find_sets(paths: list[str], unpacked: Path) -> dict[str, Path]:
    """Return the folder of each set with class labels, by name."""
    found: dict[str, Path] = {}
    for number, path in enumerate(map(Path, paths)):
        if path.is_file():
            folder = unpacked / str(number)
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
            path = folder
        for train in sorted(path.rglob("*_TRAIN.ts")):
            name = train.name.removesuffix("_TRAIN.ts")
            if _is_set(train, name):
                found.setdefault(name, train.parent)
    if not found:
        raise SystemExit(f"no NAME_TRAIN.ts with NAME_TEST.ts and class labels in {', '.join(paths)}")
    return dict(sorted(found.items()))


def _is_set(train: Path, name: str) -> bool:
    """Return whether a set has a test part and class labels, and is not an equal-length copy (_eq) by aeon."""
    if not train.with_name(f"{name}_TEST.ts").exists() or name.lower().endswith("_eq"):
        return False
    with train.open(errors="replace") as file:
        return any(line.lower().startswith("@classlabel true") for line in file)


def run_limited(command: list[str], limit: int) -> tuple[int, float, str]:
    """Run a process with one thread, and return its exit code, CPU seconds and output.

    The seconds are those of the process and of the ones that it started. One that uses more than `limit` is ended.
    """

    def limit_cpu() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))

    with tempfile.TemporaryFile("w+") as output:
        environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, preexec_fn=limit_cpu
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        return process.returncode, usage.ru_utime + usage.ru_stime, output.read()


def measure(method: str, name: str, folder: Path, seed: int, rivals_python: str, limit: int) -> Result:
    """Train and test a method on a set."""
    if method in RIVALS:
        if not rivals_python:
            raise SystemExit(f"{method} needs --rivals-python, an interpreter with aeon")
        outcome = _rival(method, name, folder, seed, rivals_python, limit)
    else:
        outcome = _rcdp(method, name, folder, seed, limit)
    return {"method": method, "set": name, "seed": seed, **outcome}


def _rival(method: str, name: str, folder: Path, seed: int, python: str, limit: int) -> Result:
    program = Path(__file__).with_name("series_rivals.py")
    files = [str(folder / f"{name}_{part}.ts") for part in ("TRAIN", "TEST")]
    code, seconds, output = run_limited([python, str(program), method, *files, str(seed)], limit)
    return _outcome(code, seconds, output, limit, lambda: json.loads(output.splitlines()[-1]))


def _rcdp(method: str, name: str, folder: Path, seed: int, limit: int) -> Result:
    command, *changes = shlex.split(method)
    profile = command.partition(":")[2]
    with tempfile.TemporaryDirectory() as scratch:
        # A folder with this set only.
        data = Path(scratch, "data")
        data.mkdir()
        for part in ("TRAIN", "TEST"):
            (data / f"{name}_{part}.ts").symlink_to((folder / f"{name}_{part}.ts").resolve())
        config = Path(scratch, "series.toml")
        config.write_text(f'[data]\nsource = "ts"\npath = "{data}"\n\n[run]\nseed = {seed}\n')
        settings = [f"reservoir.seed={seed}"]
        if profile:
            settings += ["data.source=ts", f"data.path={data}", f"run.seed={seed}"]
        flags = [word for setting in [*settings, *changes] for word in ("--set", setting)]
        run = [sys.executable, "-m", "rcdp_hpc", "run", profile or str(config), "--out", f"{scratch}/run", "--quiet"]
        code, seconds, output = run_limited([*run, *flags], limit)
        return _outcome(code, seconds, output, limit, lambda: _test(Path(scratch, "run")))


def _test(run: Path) -> Result:
    test = json.loads((run / "report/summary.json").read_text())["test"]
    present = [recall for label, recall in enumerate(test["recall"]) if label not in test["absent"]]
    return {"accuracy": test["accuracy"], "balanced": statistics.mean(present)}


def _outcome(code: int, seconds: float, output: str, limit: int, read: Callable[[], Result]) -> Result:
    if code == 0:
        return {**read(), "cpu": seconds}
    if code < 0 and seconds >= limit - 1:
        return {"missing": f"more than {limit} CPU seconds", "cpu": seconds}
    return {"missing": f"exit code {code}: {' '.join(output.split())[-200:]}", "cpu": seconds}


def collect(sets: dict[str, Path], options: argparse.Namespace) -> Iterator[Result]:
    """Yield the results of every method, set and seed: first those in the file, then the others when measured.

    A set that a method has no result on by one seed is not tried by other seeds.
    """
    path = Path(options.results)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    kept = {(one["method"], one["set"], one["seed"]): one for one in lines if one["method"] not in options.again}
    for method in options.methods:
        failed = set()
        for seed in range(1, 2 if method in options.one_seed else options.seeds + 1):
            for name in [name for name in sets if name not in failed]:
                result = kept.get((method, name, seed))
                if result is None:
                    result = measure(method, name, sets[name], seed, options.rivals_python, options.limit)
                    with path.open("a") as file:
                        file.write(json.dumps(result) + "\n")
                    print(json.dumps(result), file=sys.stderr, flush=True)
                if "missing" in result:
                    failed.add(name)
                yield result


class Means:
    """Means over seeds: ``values[method, name]`` has accuracy and balanced accuracy in percent, and CPU seconds."""

    def __init__(self, results: list[Result]) -> None:
        self.methods = list(dict.fromkeys(one["method"] for one in results))
        self.sets = list(dict.fromkeys(one["set"] for one in results))
        self.missing = [one for one in results if "missing" in one]
        self.values: dict[tuple[str, str], dict[str, float]] = {}
        for method in self.methods:
            for name in self.sets:
                seeds = [one for one in results if (one["method"], one["set"]) == (method, name)]
                if seeds and not any("missing" in one for one in seeds):
                    self.values[method, name] = _mean(seeds)

    def common(self, method: str) -> list[str]:
        """Return the sets that a method and the reference have results for, or those of the method alone."""
        reference = REFERENCE if REFERENCE in self.methods else method
        return [name for name in self.sets if {(method, name), (reference, name)} <= self.values.keys()]

    def mean(self, method: str, key: str, names: list[str]) -> float:
        return statistics.mean(self.values[method, name][key] for name in names)

    def rank(self, method: str) -> float:
        """Return the mean rank by accuracy, over the sets that all methods have results for; equal ones share it."""
        ranks = []
        for name in self.sets:
            if all((other, name) in self.values for other in self.methods):
                accuracies = {other: self.values[other, name]["accuracy"] for other in self.methods}
                better = sum(value > accuracies[method] + 1e-9 for value in accuracies.values())
                equal = sum(abs(value - accuracies[method]) <= 1e-9 for value in accuracies.values())
                ranks.append(better + (equal + 1) / 2)
        return statistics.mean(ranks) if ranks else math.nan


def _mean(seeds: list[Result]) -> dict[str, float]:
    scale = {"accuracy": 100, "balanced": 100, "cpu": 1}
    return {key: factor * statistics.mean(one[key] for one in seeds) for key, factor in scale.items()}


def print_sets(means: Means) -> None:
    """Print a line per set: accuracy / balanced accuracy in percent, and CPU seconds, of each method."""
    print(f"| set | {' | '.join(means.methods)} |\n|{'---|' * (len(means.methods) + 1)}")
    for name in means.sets:
        cells = []
        for method in means.methods:
            one = means.values.get((method, name))
            cells.append("-" if one is None else f"{one['accuracy']:.1f} / {one['balanced']:.1f}, {one['cpu']:.1f} s")
        print(f"| {name} | {' | '.join(cells)} |")


def print_summary(means: Means) -> None:
    """Print a line per method: means, and how it compares to the reference on the sets that both have."""
    print(
        f"\n| method | sets | accuracy | balanced | mean rank | CPU seconds | more than {LARGE_DEFICIT:.0f} points "
        f"below {REFERENCE} | worst set | CPU seconds by {REFERENCE}'s: geometric mean, sums |\n|{'---|' * 9}"
    )
    for method in means.methods:
        names = means.common(method)
        if not names:
            continue
        cells = [f"{means.mean(method, key, names):.2f}" for key in ("accuracy", "balanced")]
        seconds = f"{means.mean(method, 'cpu', names):.1f}"
        cells += [f"{means.rank(method):.2f}", seconds, *_against(means, method, names)]
        print(f"| {method} | {len(names)} | {' | '.join(cells)} |")
    for one in means.missing:
        print(f"\nmissing: {one['method']}, {one['set']}, seed {one['seed']}: {one['missing']}")


def _against(means: Means, method: str, names: list[str]) -> list[str]:
    if method == REFERENCE or REFERENCE not in means.methods:
        return ["-", "-", "-"]
    pairs = {name: (means.values[method, name], means.values[REFERENCE, name]) for name in names}
    gains = {name: one["accuracy"] - other["accuracy"] for name, (one, other) in pairs.items()}
    worst = min(gains, key=lambda name: gains[name])
    ratio = statistics.geometric_mean(one["cpu"] / other["cpu"] for one, other in pairs.values())
    sums = sum(one["cpu"] for one, _ in pairs.values()) / sum(other["cpu"] for _, other in pairs.values())
    return [
        str(sum(gain < -LARGE_DEFICIT for gain in gains.values())),
        f"{worst} ({gains[worst]:+.1f})",
        f"{ratio:.2f}, {sums:.2f}",
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="SETS", help="folders or tar archives of sets")
    parser.add_argument("--results", required=True, help="file of JSON lines that measurements are appended to")
    parser.add_argument("--methods", nargs="+", default=["rcdp"], help=f"rcdp..., {', '.join(RIVALS)}")
    parser.add_argument("--sets", nargs="+", default=[], help="the names to use; default: all that are found")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--one-seed", nargs="+", default=["dtw"], metavar="METHOD", help="methods to measure by seed 1 only"
    )
    parser.add_argument("--rivals-python", default="", help="interpreter that runs the rivals")
    parser.add_argument("--limit", type=int, default=600, help="CPU seconds that a measurement may take")
    parser.add_argument("--again", nargs="+", default=[], metavar="METHOD", help="methods to measure again")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as unpacked:
        sets = find_sets(options.paths, Path(unpacked))
        if unknown := set(options.sets) - set(sets):
            raise SystemExit(f"no such set: {', '.join(sorted(unknown))}; there are {', '.join(sets)}")
        sets = {name: folder for name, folder in sets.items() if not options.sets or name in options.sets}
        means = Means(list(collect(sets, options)))
    print_sets(means)
    print_summary(means)


if __name__ == "__main__":
    main()
