"""best.toml: the winner of a search."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import KEY, check_sealed, sealed
from rcdp_hpc.runtime.files import write_text
from rcdp_hpc.runtime.json_text import read_regular_file
from rcdp_hpc.search.space import Values


@dataclass(frozen=True)
class Best:
    """The best candidate of a search.

    Attributes
    ----------
    values : dict
        Its values by name.
    fitness, error, accuracy : float
        As in `rcdp_hpc.search.evaluation.candidate.Evaluation`.
    generation, candidate : int
        Where its values occurred first: generation from 1, index within it from 0.
    evaluations : int
        Evaluations of the whole search.
    seconds : float
        Time of all evaluations, summed over ranks.
    first_error : float or None
        E_0 of the density term, the error of the first candidate that did not fail; None without the term.
    meaning : str
        What the fitness is, as a formula; empty in a file of an earlier version.
    """

    values: Values
    fitness: float
    error: float
    accuracy: float
    generation: int
    candidate: int
    evaluations: int
    seconds: float
    first_error: float | None = None
    meaning: str = ""


def write_best(path: Path, best: Best) -> None:
    """Write best.toml atomically."""
    tree: dict[str, Any] = {
        name: getattr(best, name) for name in Best.__dataclass_fields__ if name not in ("values", "seconds")
    }
    if best.first_error is None:  # TOML has no value for it
        del tree["first_error"]
    tree["values"] = dict(best.values)
    tree["timing"] = {"seconds": best.seconds}
    comment = "# The best candidate of the search. To train with other values, use --set SECTION.KEY=VALUE with\n"
    comment += "# search.generations=0: this file has a checksum and is refused if it was altered.\n"
    write_text(path, comment + tomlkit.dumps({KEY: "", **sealed(tree)}))


def read_best(path: Path) -> Values:
    """Return the winner's values by name, from best.toml.

    Raises
    ------
    DataDamagedError
        If it is missing or was altered.
    """
    return read_best_record(path).values


def read_best_record(path: Path) -> Best:
    """Return the complete record of the winner, from best.toml.

    Raises
    ------
    DataDamagedError
        If it is missing or was altered.
    """
    remedy = (
        "Run rcdp search again, which rewrites it from the checkpoint, or train with other values: "
        "--set search.generations=0 --set SECTION.KEY=VALUE."
    )
    content = read_regular_file(path, remedy)
    try:
        tree = check_sealed(tomllib.loads(content.decode()), path, remedy)
        seconds = tree.pop("timing")["seconds"]
        return Best(seconds=seconds, **tree)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise DataDamagedError(f"{path}: not the record of a search's winner ({reason}). {remedy}") from None


def format_value(value: float | int | str) -> str:
    """Return a value as text, numbers to four digits."""
    return value if isinstance(value, str) else f"{value:.4g}"
