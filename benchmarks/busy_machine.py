"""Threads on a busy machine: one training alone, next to a busy loop, and two trainings at once.

    python benchmarks/busy_machine.py [--work digits vowels images] [--repeats 5]

With GNU OpenMP a waiting thread spins for a while before it sleeps. On an idle machine this saves a little time; on a
busy machine other threads wait for the spinning one. Each row of the table is one setting: `spin` is the default of GNU
OpenMP, `spin 3000` and `spin 300` are a hundredth and a thousandth of it, `sleep` does not spin
(``OMP_WAIT_POLICY=passive``), `one thread` never waits, and `default` is the setting that rcdp_hpc chooses.

The settings of a repeat run one after the other, so that other load affects all of them alike. Seconds are medians of
the stage's own time, without the start of Python; for two trainings at once, of the slower one. The last column is the
cost of a setting on an idle machine: the median over repeats of its seconds divided by those of `spin`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SETTINGS: dict[str, tuple[int, dict[str, str]]] = {
    "spin": (2, {"GOMP_SPINCOUNT": "300000"}),
    "spin 3000": (2, {"GOMP_SPINCOUNT": "3000"}),
    "spin 300": (2, {"GOMP_SPINCOUNT": "300"}),
    "sleep": (2, {"OMP_WAIT_POLICY": "passive"}),
    "one thread": (1, {}),
    "default": (0, {}),
}
LOADS = ("alone", "busy loop", "two at once")
WAITS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", nargs="+", default=["digits", "vowels", "images"], choices=sorted(WORKS))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=LOADS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads of the settings that have two by default")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rcdp-busy-") as place:
        for name in chosen.work:
            measure(name, Path(place) / name, chosen)


def measure(name: str, folder: Path, chosen: argparse.Namespace) -> None:
    """Print the table of one kind of work."""
    folder.mkdir()
    copies = [prepared(name, folder, copy) for copy in ("first", "second")]
    seconds: dict[tuple[str, str], list[float]] = {
        (setting, load): [] for setting in chosen.settings for load in chosen.loads
    }
    for _ in range(chosen.repeats):
        for load in chosen.loads:
            for setting in chosen.settings:
                seconds[setting, load].append(timed(copies, setting, load, chosen.threads))
    print(f"\n{name}: seconds, median of {chosen.repeats}")
    print(f"{'':<12}" + "".join(f"{load:>13}" for load in chosen.loads) + f"{'alone / spin':>15}")
    for setting in chosen.settings:
        cells = "".join(f"{statistics.median(seconds[setting, load]):>13.2f}" for load in chosen.loads)
        ratio = ""
        if "alone" in chosen.loads and "spin" in chosen.settings:
            pairs = zip(seconds[setting, "alone"], seconds["spin", "alone"], strict=True)
            ratio = f"{statistics.median(one / other for one, other in pairs):.3f}"
        print(f"{setting:<12}{cells}{ratio:>15}", flush=True)


def prepared(name: str, folder: Path, copy: str) -> Path:
    """Write and prepare the data of one copy of the work; return its run directory."""
    run = folder / copy
    source = WORKS[name](folder)
    done = rcdp("prepare", *source, "--out", str(run), "--quiet")
    said = done.communicate()[1].decode()
    if done.returncode:
        sys.exit(f"{run}: could not be prepared: {said}")
    return run


def timed(runs: list[Path], setting: str, load: str, two: int) -> float:
    """Return the seconds that the training of the first run takes, or of the slower of two."""
    threads, variables = SETTINGS[setting]
    env = {key: value for key, value in os.environ.items() if key not in WAITS} | variables
    count = two if threads == 2 else threads
    started = runs if load == "two at once" else runs[:1]
    with busy_loop() if load == "busy loop" else contextlib.nullcontext():
        trainings = [
            rcdp("train", "--out", str(run), "--restart", "--quiet", "--set", f"training.threads={count}", env=env)
            for run in started
        ]
        errors = [training.communicate()[1] for training in trainings]
    for training, said in zip(trainings, errors, strict=True):
        if training.returncode:
            sys.exit(f"a training ended with code {training.returncode}: {said.decode()}")
    return max(json.loads((run / "state/train.json").read_text())["seconds"] for run in started)


def rcdp(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rcdp_hpc", *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@contextlib.contextmanager
def busy_loop() -> Iterator[None]:
    """Run another busy process for the duration of the block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


def digits(folder: Path) -> list[str]:
    """Return the settings of the profile digits: small steps of a small readout."""
    return ["digits", *sets("search.generations=0", "training.epochs=8", *KERNEL)]


def vowels(folder: Path) -> list[str]:
    """Write series like the Japanese Vowels and return their settings: states and a ridge readout."""
    rng = np.random.default_rng(0)
    for part in ("TRAIN", "TEST"):
        lines = ["@problemName Vowels", "@univariate false", "@dimensions 12", "@equalLength false",
                 "@classLabel true 1 2 3 4 5 6 7 8 9", "@data"]  # fmt: skip
        for number in range(540):
            steps = rng.integers(7, 30)
            series = rng.normal(number % 9, 3.0, (12, steps)).round(3)
            lines.append(":".join(",".join(map(str, row)) for row in series.tolist()) + f":{number % 9 + 1}")
        (folder / f"JapaneseVowels_{part}.ts").write_text("\n".join(lines) + "\n")
    return ["vowels", *sets(f"data.path={folder}", "search.generations=0", *KERNEL)]


def images(folder: Path) -> list[str]:
    """Write noisy images of 28 x 28 pixels and return the settings of the profile mnist: larger steps and states."""
    rng = np.random.default_rng(0)
    y = np.arange(4000) % 10
    prototypes = rng.integers(0, 200, (10, 28, 28))
    x = (prototypes[y] + rng.integers(0, 56, (len(y), 28, 28))).astype(np.uint8)
    np.savez(folder / "images.npz", x=x, y=y)
    own = (f"data.path={folder}/images.npz", "data.source=npz", "training.epochs=4", "training.baseline=false")
    return ["mnist", *sets(*own, "search.generations=0", *KERNEL)]


def sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


# One kernel for all settings: otherwise each setting's first run measures, and may choose another.
KERNEL = ("reservoir.kernel=dense-fp32", "reservoir.batch_rows=256")
WORKS = {"digits": digits, "vowels": vowels, "images": images}

if __name__ == "__main__":
    main()
