"""What tests of whole runs share: settings as arguments, a prepared run, what a training has told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from launch import rcdp, run_ranks

CURVE = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def flags(*values: str) -> list[str]:
    """Return ``section.key=value`` as arguments of the command line."""
    return [part for value in values for part in ("--set", value)]


def prepare_digits(out: Path, settings: Sequence[str]) -> Path:
    """Prepare the digits into a run directory, by one process, and return it."""
    done = run_ranks(0, rcdp("prepare", "digits", "--out", str(out), *settings))
    assert done.returncode == 0, done.stdout
    return out


def lines(path: Path) -> list[dict]:
    """Return what a file of JSON lines holds."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def curve(out: Path, names: Sequence[str] = CURVE) -> np.ndarray:
    """Return what a training told of its epochs, shape (epochs, names)."""
    return np.array([[line[name] for name in names] for line in lines(out / "train/metrics.jsonl")])
