"""Rows of a check on small made data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from settings import config_of

from rcdp_hpc.balance_check.methods import load_methods
from rcdp_hpc.balance_check.rows import CheckRows, read_rows
from rcdp_hpc.config import Config
from rcdp_hpc.runtime.comm.single import SingleProcess

COUNTS = (120, 40, 12)


def write_rows(path: Path, counts: tuple[int, ...] = COUNTS, apart: float = 1.2, seed: int = 0) -> Path:
    """Write rows of overlapping normal distributions, one for each class, as an npz file."""
    generator = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    centres = apart * generator.standard_normal((len(counts), 6))
    x = (centres[y] + generator.standard_normal((len(y), 6))).astype(np.float32)
    np.savez(path, x=x, y=y)
    return path


def config_for(path: Path, **settings: object) -> Config:
    """Return settings of a small reservoir on these rows."""
    keys = {
        "data": {"source": "npz", "path": str(path), "kind": "table"},
        "reservoir": {"nodes": 20, "kernel": "dense-fp32", "states": 1, "sequence": "rows", "batch_rows": 16},
        "readout": {"kind": "ridge", "ridge_penalties": [0.001, 0.01, 0.1]},
        "training": {"threads": 1, "device": "cpu"},
    }
    return config_of(**{**keys, **settings})


def rows_of(config: Config, folds: int = 4) -> CheckRows:
    """Return the rows of a check, with all methods."""
    balances = [one.balance for one in load_methods() if one.balance != "none"]
    return read_rows(config, folds, balances, SingleProcess())
