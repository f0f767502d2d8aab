"""Samples of several sites, and ridge readouts that keep their sums by site."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rcdp_hpc.config import load_config
from rcdp_hpc.pipeline.stages import run_stages

SITES = ("north", "south", "west")
SETTINGS = [
    "data.source=npz", "data.kind=series", "data.balance=none", "data.shards=4", "readout.kind=ridge",
    "readout.keep_sums=true", "reservoir.nodes=12", "reservoir.kernel=dense-fp32", "reservoir.batch_rows=32",
    "extractor.kind=none", "search.generations=0", "training.threads=1", "run.progress=false",
]  # fmt: skip
BY_SITE = [*SETTINGS, "data.unit_pattern=^[a-z]+"]


def samples(site: int) -> dict[str, np.ndarray]:
    """Return 60 or more samples of a site: noisy series of three classes, on a scale of the site's own."""
    rng = np.random.default_rng(site)
    y = rng.integers(0, 3, 60 + 10 * site)
    steps = np.arange(9)[:, None]
    x = np.sin((0.4 + 0.5 * y[:, None, None]) * steps) + rng.normal(0, 0.3, (len(y), 9, 2)) + site
    ids = [f"{SITES[site]}-{number:03}" for number in range(len(y))]
    return {"x": x.astype(np.float32), "y": np.array(["a", "b", "c"])[y], "ids": np.array(ids)}


def joined(*parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def train(out: Path, data: Path, *settings: str, base: list[str] = BY_SITE) -> Path:
    run_stages(["prepare", "train"], load_config("series", [*base, f"data.path={data}", *settings]), out)
    return out
