"""Images without gradient steps: the effect of each part of a frozen profile, with and without the reservoir.

    python benchmarks/frozen_images.py mnist-frozen --out FOLDER --set data.path=MNIST
    python benchmarks/frozen_images.py cifar10-frozen --out FOLDER --set data.path=CIFAR --nodes 1000 2000

The table has one row for each case: the profile unchanged; without mirror images; without the power of the averages;
ridge on the map without a reservoir; and the map with reservoirs of several sizes, with all
states as features. Every case is `rcdp run` with the same seed and split. Compare cases by the validation accuracy;
the test accuracy is for the report only. CPU seconds are those of the whole run on all ranks.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from rcdp_hpc.config import Config, load_config
from rcdp_hpc.training.checks import check_sequences

SHAPES = {"cifar10": (32, 32, 3), "mnist": (28, 28)}
HEAD = "| case | values read by ridge | validation | test | CPU s | wall s |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE")
    chosen = parser.parse_args()
    print(HEAD, "|---|---|---|---|---|---|", sep="\n", flush=True)
    for name, changes in cases(load_config(chosen.profile, chosen.settings), chosen.nodes).items():
        print(row(chosen, name, changes), flush=True)


def cases(config: Config, nodes: list[int]) -> dict[str, list[str]]:
    """Return the changed settings of each case, by name; cases without a change are left out."""
    extractor = config.extractor
    found: dict[str, list[str]] = {"the profile": []}
    if extractor.mirror:
        found["without mirror images"] = ["extractor.mirror=false"]
    if extractor.power != 1:
        found["averages as they are"] = ["extractor.power=1"]
    if config.reservoir.kind != "none":
        found["without the reservoir"] = ["reservoir.kind=none"]
    steps, features = check_sequences(config, SHAPES[config.data.source], None) or (1, 1)
    # Input weights are uniform in [-s, s]: the input of a neuron has the standard deviation 1/2.
    scaling = f"reservoir.input_scaling={0.5 * (3 / features) ** 0.5:.2g}"
    for number in nodes:
        changes = ["reservoir.kind=random", f"reservoir.nodes={number}", f"reservoir.states={steps}", scaling]
        found[f"a reservoir of {number} nodes"] = changes
    return found


def row(chosen: argparse.Namespace, name: str, changes: list[str]) -> str:
    """Run a case and return its row of the table."""
    out, settings = chosen.out / name.replace(" ", "-"), [*chosen.settings, *changes]
    flags = [part for value in ["run.progress=false", *settings] for part in ("--set", value)]
    launcher = ["mpirun", "-n", str(chosen.ranks)] if chosen.ranks > 1 else []
    command = [*launcher, sys.executable, "-m", "rcdp_hpc", "run", chosen.profile, "--out", str(out), *flags]
    started, before = time.perf_counter(), cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - before
    summary = json.loads((out / "report/summary.json").read_text())
    validation, test = summary["training"]["validation_accuracy"], summary["test"]["accuracy"]
    values = width(load_config(chosen.profile, settings))
    return f"| {name} | {values} | {100 * validation:.2f} % | {100 * test:.2f} % | {cpu:.0f} | {seconds:.0f} |"


def width(config: Config) -> int:
    """Return the number of features of an image that ridge reads."""
    steps, features = check_sequences(config, SHAPES[config.data.source], None) or (0, 0)
    return steps * features if config.reservoir.kind == "none" else config.reservoir.states * config.reservoir.nodes


def cpu_seconds() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
