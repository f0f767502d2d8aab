"""best.toml: the winner of a search."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.files import os_errors_explained, write_text
from rcdp_hpc.search.space import Values


@dataclass(frozen=True)
class Best:
    """The best candidate of a search.

    Attributes
    ----------
    values : dict
        Its values by name.
    fitness, error, accuracy : float
        As in `rcdp_hpc.search.candidate.Evaluation`.
    generation, candidate : int
        Where it came up first.
    evaluations : int
        Candidates evaluated in the whole search.
    seconds : float
        Time of all evaluations, summed over ranks.
    """

    values: Values
    fitness: float
    error: float
    accuracy: float
    generation: int
    candidate: int
    evaluations: int
    seconds: float


def write_best(path: Path, best: Best) -> None:
    """Write best.toml atomically."""
    tree: dict[str, Any] = {
        name: getattr(best, name) for name in Best.__dataclass_fields__ if name not in ("values", "seconds")
    }
    tree["values"] = dict(best.values)
    tree["timing"] = {"seconds": best.seconds}
    write_text(path, "# The best candidate of the search.\n" + tomlkit.dumps(tree))


def read_best(path: Path) -> Values:
    """Return the winner's values by name, from best.toml.

    Raises
    ------
    DataDamagedError
        If it is missing, or not what `write_best` writes.
    """
    return read_best_record(path).values


def read_best_record(path: Path) -> Best:
    """Return all that best.toml tells of the winner.

    Raises
    ------
    DataDamagedError
        If it is missing, or not what `write_best` writes.
    """
    if not path.exists():
        raise DataDamagedError(f"{path}: missing, though the search is done; start the search again to write it anew")
    with os_errors_explained(path):
        content = path.read_bytes()
    try:
        tree = tomllib.loads(content.decode())
        seconds = tree.pop("timing")["seconds"]
        return Best(seconds=seconds, **tree)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataDamagedError(
            f"{path}: not a winner's file ({error}); start the search again to write it anew"
        ) from None


def shown(value: float | int | str) -> str:
    """Return a value for people, numbers to four digits."""
    return value if isinstance(value, str) else f"{value:.4g}"
