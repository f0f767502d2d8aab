"""Helpers for tests of whole runs: settings as arguments, a prepared run, records of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from launch import rcdp, run_ranks

from rcdp_hpc.runtime.digests import read_sealed_lines

CURVE = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def flags(*values: str) -> list[str]:
    """Return ``section.key=value`` as arguments of the command line."""
    return [part for value in values for part in ("--set", value)]


def prepare_digits(out: Path, settings: Sequence[str]) -> Path:
    """Prepare the digits data in a run directory with one process, and return the directory."""
    done = run_ranks(0, rcdp("prepare", "digits", "--out", str(out), *settings))
    assert done.returncode == 0, done.stdout
    return out


def lines(path: Path) -> list[dict]:
    """Return the records of a file of sealed JSON lines."""
    return read_sealed_lines(path, growing=True)


def curve(out: Path, names: Sequence[str] = CURVE) -> np.ndarray:
    """Return the recorded metrics of a training, shape (epochs, names)."""
    return np.array([[line[name] for name in names] for line in lines(out / "train/metrics.jsonl")])


def recorded_epochs(out: Path) -> int:
    """Return the number of recorded epochs of a training."""
    metrics = out / "train/metrics.jsonl"
    return len(lines(metrics)) if metrics.exists() else 0


def series_file(path: Path, rows: int, seed: int) -> Path:
    """Write sines of three frequencies, 5 to 12 steps long, in two dimensions; the first class is rare."""
    generator = np.random.default_rng(seed)
    lines = ["@problemName Waves", "@timeStamps false", "@univariate false", "@classLabel true low mid high", "@data"]
    for row in range(rows):
        label = (0, 1, 2, 1, 2)[row % 5]
        steps = np.arange(generator.integers(5, 13)) * (label + 1) / 4 + generator.uniform(0, 0.5)
        waves = np.stack([np.sin(steps), np.cos(steps)]) + generator.normal(0, 0.05, (2, len(steps)))
        values = (",".join(f"{value:.5f}" for value in wave) for wave in waves)
        lines.append(":".join([*values, ("low", "mid", "high")[label]]))
    path.write_text("\n".join(lines) + "\n")
    return path
