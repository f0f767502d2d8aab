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


def part_sizes(folder: str) -> tuple[int, int]:
    """Return the number of training images and of test images."""
    train, test = (len(_read_part(folder, part, "labels-idx1", 8)) for part in PARTS)
    return train, test


def _read(folder: str, what: str, header: int) -> np.ndarray:
    return np.concatenate([_read_part(folder, part, what, header) for part in PARTS])


def _read_part(folder: str, part: str, what: str, header: int) -> np.ndarray:
    with gzip.open(Path(folder) / f"{part}-{what}-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)
