"""The results of a search that must not differ between two runs."""

from __future__ import annotations

import tomllib
from pathlib import Path

from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.records import checkpoint as checkpoints


def untimed(folder: Path) -> list[dict]:
    """Return the history without its timings."""
    lines = read_sealed_lines(folder / "history.jsonl")
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


def outcome(folder: Path) -> tuple:
    """Return history, winner and checkpoint without timings."""
    best = tomllib.loads((folder / "best.toml").read_text())
    del best["timing"]
    saved = checkpoints.read_checkpoint(folder / checkpoints.NAME)
    archive = saved.archive
    columns = [archive.places, archive.values, archive.shares, archive.results[:, :3]]
    state = {name: array.tobytes() for name, array in saved.optimizer.items()}
    return untimed(folder), best, state, [column.tobytes() for column in columns], archive.reasons
