"""Test accuracy of the profile `vowels` over many seeds, one run per seed.

    python benchmarks/vowels_seeds.py DATA/japanese-vowels [--seeds 10] [--first 1] [--ranks 0]

A seed determines the split, the moths of the search and the reservoir. Candidates are evaluated by the leave-one-out
error of training series; the test series are used once per seed, at the end of its run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(seed: int, data: str, ranks: int, changes: list[str], folder: Path) -> dict[str, float]:
    """Run the profile with one seed, and return its accuracies and seconds."""
    settings = [f"data.path={data}", f"run.seed={seed}", f"reservoir.seed={seed}", "run.progress=false", *changes]
    flags = [part for value in settings for part in ("--set", value)]
    launch = ["mpirun", "-n", str(ranks), "--bind-to", "none"] if ranks else []
    started = time.perf_counter()
    command = [*launch, sys.executable, "-m", "rcdp_hpc", "run", "vowels", "--out", str(folder), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"seed {seed}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    history = [json.loads(line) for line in (folder / "search/history.jsonl").read_text().splitlines()]
    test = json.loads((folder / "report/summary.json").read_text())["test"]
    return {
        "folds": max(line["accuracy"] for line in history),
        "test": test["accuracy"],
        "wrong": round((1 - test["accuracy"]) * test["samples"]),
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of JapaneseVowels_TRAIN.ts and _TEST.ts")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--ranks", type=int, default=0, help="ranks of a run, by mpirun; 0: one process without it")
    parser.add_argument("--set", action="append", default=[], help="a setting of the profile to change")
    chosen = parser.parse_args()
    print("| seed | left out | test | wrong | seconds |\n|---|---|---|---|---|", flush=True)
    found = []
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        with tempfile.TemporaryDirectory() as folder:
            one = run(seed, chosen.data, chosen.ranks, chosen.set, Path(folder, "run"))
        found.append(one["test"])
        print(
            f"| {seed} | {one['folds']:.2%} | {one['test']:.2%} | {one['wrong']} | {one['seconds']:.0f} |", flush=True
        )
    deviation = statistics.stdev(found) if len(found) > 1 else 0.0
    print(f"\ntest: mean {statistics.mean(found):.2%}, deviation {deviation:.2%}, least {min(found):.2%}")


if __name__ == "__main__":
    main()
