"""Inputs of the benchmarks: MNIST's images, or random images of the same shape."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

STEPS = FEATURES = 28
PARTS = ("train", "t10k")


def images(folder: str, count: int) -> np.ndarray:
    """Return training images, then test images, shape (count, 28, 28), uint8; without a folder random images."""
    if not folder:
        return np.random.default_rng(0).integers(0, 256, (count, STEPS, FEATURES), dtype=np.uint8)
    return _read(folder, "images-idx3", 16)[: count * STEPS * FEATURES].reshape(-1, STEPS, FEATURES)


def labels(folder: str, count: int) -> np.ndarray:
    """Return the class numbers of `images`, shape (count,)."""
    if not folder:
        return np.random.default_rng(1).integers(0, 10, count)
    return _read(folder, "labels-idx1", 8)[:count].astype(np.int64)


def _read(folder: str, what: str, header: int) -> np.ndarray:
    parts = []
    for part in PARTS:
        with gzip.open(Path(folder) / f"{part}-{what}-ubyte.gz") as file:
            parts.append(np.frombuffer(file.read(), np.uint8, offset=header))
    return np.concatenate(parts)
