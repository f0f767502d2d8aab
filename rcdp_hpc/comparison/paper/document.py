"""``paper.md``: all tables and figures of the experiment that are finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rcdp_hpc.comparison.paper.effect import EffectRun
from rcdp_hpc.comparison.paper.scale import Scale
from rcdp_hpc.comparison.paper.settings import FOLDS, TABLES, TITLES
from rcdp_hpc.comparison.paper.sizes import FILE as SIZES
from rcdp_hpc.comparison.paper.tables import (
    effect_table,
    methods_table,
    sizes_table,
    tests_table,
    utilisation_table,
)
from rcdp_hpc.comparison.results import FILE, read_comparison, read_timings
from rcdp_hpc.evaluation.stage import versions
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.files import write_text

DOCUMENT = "paper.md"
RESULTS = "results.json"
_NOT_FINISHED = "Not finished: start the same command again."
_REPORTED = (
    'Columns "paper reports" and "in" are the paper\'s own figures, on its machines and data. They were not measured '
    "here."
)


def write_document(folder: Path, scale: Scale, seeds: Sequence[int]) -> Path:
    """Write ``paper.md`` from the finished parts, and return its path.

    Parameters
    ----------
    folder : Path
        Folder of the experiment.
    scale : Scale
    seeds : sequence of int
    """
    parts = ["# The paper as an experiment", _about(scale, seeds), *_sections(folder)]
    path = folder / DOCUMENT
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def _about(scale: Scale, seeds: Sequence[int]) -> str:
    sizes = ", ".join(f"{name} = {value}" for name, value in scale.as_json().items() if name != "name" and value)
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    single = " There is one seed, so no deviation is shown." if len(seeds) == 1 else ""
    return (
        f"Scale: {scale.name} ({sizes}). Seeds: {', '.join(map(str, seeds))}.{single} Values after ± are sample "
        f"standard deviations over the seeds. {_REPORTED} Versions: {used}."
    )


def _sections(folder: Path) -> Iterator[str]:
    for number, (data, name) in enumerate(TABLES.items(), 3):
        yield f"## Table {number}: {TITLES[data]}"
        yield _comparison(folder / name, data)
    yield "## Table 5: with and without a reservoir"
    yield _effects(folder / "table5")
    yield "## Table 6: larger data"
    yield _sizes(folder / "table6")
    yield "## Fig. 3: the reservoir of Table 2 and the one that was found"
    yield _picture(folder, "figure3/losses.png", "training loss over the epochs, with and without the search")
    yield f"## Fig. 4: macro F1 over {FOLDS} folds of {TITLES['mnist']}"
    yield _picture(folder, "figure4/folds.png", "macro F1 of each fold by method")


def _comparison(folder: Path, data: str) -> str:
    if not (folder / FILE).exists():
        return _NOT_FINISHED
    comparison, timings = read_comparison(folder), read_timings(folder)
    first = comparison.methods[0].name
    busy = "How busy the processors were, processor time over wall time of all cores of the ranks:"
    return "\n\n".join(
        [
            methods_table(data, comparison, timings),
            f"The method {first} against each other one:",
            tests_table(comparison),
            busy,
            utilisation_table(comparison, timings),
            f"![processors busy over time]({folder.name}/utilisation.png)",
        ]
    )


def _effects(folder: Path) -> str:
    content = _sealed(folder / RESULTS)
    if content is None:
        return _NOT_FINISHED
    runs = [EffectRun.from_json(entry) for entry in content["runs"]]
    return effect_table(runs)


def _sizes(folder: Path) -> str:
    content = _sealed(folder / SIZES)
    return _NOT_FINISHED if content is None else sizes_table(content)


def _sealed(path: Path) -> dict[str, Any] | None:
    return read_sealed(path, f"Remove {path.parent} and start again.") if path.exists() else None


def _picture(folder: Path, name: str, meaning: str) -> str:
    return f"![{meaning}]({name})" if (folder / name).exists() else _NOT_FINISHED
