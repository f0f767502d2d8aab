"""Cells of small data sets for the tests of methods."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import rcdp_hpc
from rcdp_hpc.comparison.methods.base import Budget, Cell, Method, Outcome
from rcdp_hpc.config import Config, load_config
from rcdp_hpc.config.choices import METHODS
from rcdp_hpc.data.shards.index import facts_in, load_index
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.user_code import load_choice

# Small searches and trainings, on one thread.
SMALL = {
    "run": {"progress": False},
    "search": {"population": 4, "generations": 2, "train_rows": 300, "validation_rows": 100, "epochs": 3},
    "training": {"epochs": 15, "threads": 1, "batch": 32},
}


def method(name: str) -> Method:
    return load_choice(METHODS, name)()


def settings(data: Mapping[str, Any], **sections: Mapping[str, Any]) -> Config:
    """Return the settings of a small comparison; sections are merged into the small ones."""
    merged = {name: {**SMALL.get(name, {}), **sections.get(name, {})} for name in {**SMALL, **sections}}
    return load_config({"data": dict(data), **merged})


def prepared(config: Config, folder: Path) -> Path:
    """Prepare the shards of a comparison and return their folder."""
    rcdp_hpc.prepare(config, folder)
    return folder / "shards"


def cell(config: Config, shards: Path, folder: Path, comm: Communicator | None = None) -> Cell:
    """Return a cell with its own copy of the shards."""
    if not (folder / "shards").exists():
        shutil.copytree(shards, folder / "shards")
    budget = Budget(config.search.population, config.search.generations)
    facts = facts_in(load_index(shards))
    return Cell(config, comm or SingleProcess(), RunDirectory(folder), budget, facts)


def without_times(outcome: Outcome) -> dict[str, Any]:
    return replace(outcome, timing={}).as_json()


def table(folder: Path, rows: int = 400) -> dict[str, Any]:
    """Write a table of two classes that are not linearly separable, the second one rare."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (rows, 4)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    kept = (y == 0) | (np.arange(rows) % 3 == 0)
    np.savez(folder / "table.npz", x=x[kept], y=y[kept])
    return {"source": "npz", "path": str(folder / "table.npz")}


def series(folder: Path, rows: int = 150, steps: int = 20, unequal: bool = False) -> dict[str, Any]:
    """Write noisy sines of three frequencies and random phase, steps of two values."""
    generator = np.random.default_rng(1)
    y = np.arange(rows) % 3
    phase = generator.uniform(0, 6, (rows, 1)) + np.arange(steps) * (0.3 + 0.4 * y[:, None])
    x = np.stack([np.sin(phase), np.cos(phase)], axis=2) + generator.normal(0, 0.1, (rows, steps, 2))
    lengths = {"lengths": generator.integers(12, steps + 1, rows)} if unequal else {}
    np.savez(folder / "series.npz", x=x.astype(np.float32), y=y, **lengths)
    return {"source": "npz", "path": str(folder / "series.npz"), "kind": "series"}
