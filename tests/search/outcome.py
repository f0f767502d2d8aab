"""What must not differ between two runs of a search."""

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
    """Return all that must not differ between runs: history, winner, and the checkpoint's bits but for timings."""
    best = tomllib.loads((folder / "best.toml").read_text())
    del best["timing"]
    saved = checkpoints.read_checkpoint(folder / checkpoints.NAME)
    bits = {name: array.tobytes() for name, array in saved.arrays.items() if name != "memory.results"}
    results = saved.arrays["memory.results"][:, :3].tobytes()
    return untimed(folder), best, bits, results, saved.notes["reasons"]
