"""A profile with and without its reservoir, at equal epochs and at equal time, over several seeds.

    python benchmarks/reservoir_ablation.py cifar10 --out FOLDER --seeds 1 2 3 --set data.path=CIFAR

For each seed it runs the profile, the profile without its reservoir for the same number of epochs, and without it for
about the same time. A search of the profile runs without the reservoir, too, if its space has a dimension of the
readout; otherwise it is skipped there. Every run is `mpirun -n RANKS rcdp run` with the same split, and is tested
once, at its end. Seconds are those of the training stage: run the benchmark on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.search.effective import with_effective_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE")
    chosen = parser.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {}
    without_reservoir = ["reservoir.kind=none"]
    try:
        with_effective_space(load_config(chosen.profile, [*chosen.settings, *without_reservoir]))
    except InputError as error:
        print(f"without the reservoir there is no search: {error}")
        without_reservoir.append("search.generations=0")

    def trained(name: str, seed: int, *changes: str) -> tuple[float, int]:
        summary = run(chosen, f"{name.replace(' ', '-')}-{seed}", [f"run.seed={seed}", "data.seed=1", *changes])
        accuracy, seconds = summary["test"]["accuracy"], summary["seconds"]["train"]
        epochs = summary["training"]["epochs"]
        measured.setdefault(name, []).append((accuracy, seconds))
        print(f"seed {seed}  {name:28s} {epochs:3d} epochs  {seconds:7.1f} s  {100 * accuracy:.2f} %", flush=True)
        return seconds, epochs

    for seed in chosen.seeds:
        whole, epochs = trained("with the reservoir", seed)
        without, _ = trained("without, equal epochs", seed, *without_reservoir)
        fitting = max(1, round(epochs * whole / without))
        if fitting == epochs:
            measured.setdefault("without, equal time", []).append(measured["without, equal epochs"][-1])
        else:
            trained("without, equal time", seed, *without_reservoir, f"training.epochs={fitting}")
    for name, results in measured.items():
        accuracies, seconds = zip(*results, strict=True)
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        print(
            f"{name:28s} {100 * statistics.mean(accuracies):.2f} % (standard deviation {100 * spread:.2f}) over "
            f"{len(results)} seeds, {statistics.median(seconds):.1f} s"
        )


def run(chosen: argparse.Namespace, name: str, changes: list[str]) -> dict:
    """Return the summary of one run."""
    settings = ["run.progress=false", *chosen.settings, *changes]
    flags = [part for value in settings for part in ("--set", value)]
    out = chosen.out / name
    command = ["mpirun", "-n", str(chosen.ranks), sys.executable, "-m", "rcdp_hpc", "run", chosen.profile]
    done = subprocess.run([*command, "--out", str(out), *flags], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(done.args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads((out / "report/summary.json").read_text())


if __name__ == "__main__":
    main()
