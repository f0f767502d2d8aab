"""Seconds of a training step of each profile, side by side with another checkout of the package.

    python benchmarks/step_seconds.py --other ../rcdp_hpc-before [PROFILE ...] [--steps 12] [--turns 5] [--threads 2]

Both checkouts train the same random samples with the profile's batch and number of nodes, in processes that take turns,
so that other load on the machine affects both. The first epoch of a process warms up and is not counted. The table has
the medians, and the median of the ratios of the turns: below 1, this checkout is faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROFILES = ("digits", "mnist", "mnist-convolution", "cifar10", "cifar10-long", "paper-mnist", "paper-lstm")
# Convolutions take seconds a step.
FEWER = {"mnist-convolution": 4, "cifar10": 8, "cifar10-long": 12}


def worker(profile: str, steps: int, threads: int) -> None:
    """Print the seconds of a step of the package that this process imports."""
    from step_calls import trainer_of

    from rcdp_hpc.runtime.threads import limit_threads

    with limit_threads(threads):
        for turn in range(2):
            trainer = trainer_of(profile, steps, batch=0, nodes=0)
            started = time.perf_counter()
            trainer.run(lambda: None, lambda report: None)
            if turn:
                print((time.perf_counter() - started) / steps)


def measure(checkout: Path, profile: str, steps: int, threads: int) -> float:
    """Return the seconds of a step of a checkout."""
    command = [sys.executable, __file__, "--worker", profile, "--steps", str(steps), "--threads", str(threads)]
    environ = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    if done.returncode:
        sys.exit(f"{checkout}: {profile}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])


def row(profile: str, pairs: list[tuple[float, float]]) -> str:
    """Return the line of a profile, from pairs (other checkout, this one)."""
    before, now = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(now / before for before, now in pairs)
    return f"| {profile} | {before:.4g} ms | {now:.4g} ms | {ratio:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profiles", nargs="*", metavar="PROFILE", default=list(PROFILES))
    parser.add_argument("--other", type=Path, help="folder of the other checkout")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        worker(chosen.worker, chosen.steps, chosen.threads)
        return
    if chosen.other is None or not (chosen.other / "rcdp_hpc").is_dir():
        parser.error("--other: expected the folder of another checkout of the package")
    print("| profile | other | this | ratio |\n|---|---|---|---|")
    for profile in chosen.profiles:
        steps = max(2, chosen.steps // FEWER.get(profile, 1))
        checkouts = (chosen.other.resolve(), HERE.parent)
        pairs = []
        for _ in range(chosen.turns):
            before, now = (measure(checkout, profile, steps, chosen.threads) for checkout in checkouts)
            pairs.append((before, now))
        print(row(profile, pairs), flush=True)


if __name__ == "__main__":
    main()
