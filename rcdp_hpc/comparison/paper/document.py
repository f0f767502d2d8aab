"""The document of the experiment: all tables and figures that are finished, as Markdown and as one HTML file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rcdp_hpc.comparison.paper.effect import EffectRun
from rcdp_hpc.comparison.paper.parts import Part, Picture, Words
from rcdp_hpc.comparison.paper.scale import SETTINGS, Scale
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
from rcdp_hpc.evaluation.report.html import join
from rcdp_hpc.evaluation.report.page import Section, render
from rcdp_hpc.evaluation.report.text import moment
from rcdp_hpc.evaluation.stage import versions
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.files import write_text

DOCUMENT = "paper.md"
PAGE = "paper.html"
RESULTS = "results.json"
TITLE = "The paper as an experiment"
_NOT_FINISHED = "Not finished: start the same command again."
_REPORTED = (
    'The columns "paper reports" and "in" are the paper\'s own figures, on its machines and data. They were not '
    "measured here."
)


@dataclass(frozen=True)
class Chapter:
    """A table or figure.

    Attributes
    ----------
    key : str
        Its anchor in the page.
    title : str
    parts : list of Part
    """

    key: str
    title: str
    parts: list[Part]


def is_experiment(folder: Path) -> bool:
    """Return whether a folder is that of ``rcdp compare paper``."""
    return (folder / SETTINGS).exists()


def write_document(folder: Path, to: Path | None = None) -> Path:
    """Write ``paper.md`` and ``paper.html`` from the finished parts, and return the path of the latter.

    Parameters
    ----------
    folder : Path
        Folder of the experiment.
    to : Path, optional
        The HTML file to write instead of both files in the folder.
    """
    recorded = read_sealed(folder / SETTINGS, f"Choose another --out, or remove {folder}.")
    seeds = recorded.pop("seeds")
    chapters = [Chapter("settings", "What was asked", [Words(_about(Scale.from_json(recorded), seeds))])]
    chapters += _chapters(folder)
    sections = [Section(chapter.key, chapter.title, partial(_html, chapter)) for chapter in chapters]
    page = folder / PAGE if to is None else to
    write_text(page, render(TITLE, f"{folder} · written {moment(time.time())}", sections))
    if to is None:
        write_text(folder / DOCUMENT, _markdown(chapters))
    return page


def _markdown(chapters: Sequence[Chapter]) -> str:
    texts = [f"# {TITLE}"]
    for chapter in chapters:
        texts += [f"## {chapter.title}", *filter(None, (part.markdown() for part in chapter.parts))]
    return "\n\n".join(texts) + "\n"


def _html(chapter: Chapter) -> Any:
    return join(*(part.html() for part in chapter.parts))


def _about(scale: Scale, seeds: Sequence[int]) -> str:
    sizes = ", ".join(f"{name} = {value}" for name, value in scale.as_json().items() if name != "name" and value)
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    single = " There is one seed, so no deviation is shown." if len(seeds) == 1 else ""
    return (
        f"Scale: {scale.name} ({sizes}). Seeds: {', '.join(map(str, seeds))}.{single} Values after ± are sample "
        f"standard deviations over the seeds. {_REPORTED} Versions: {used}."
    )


def _chapters(folder: Path) -> list[Chapter]:
    chapters = [
        Chapter(name, f"Table {number}: {TITLES[data]}", _finished(folder / name / FILE, _comparison, folder, data))
        for number, (data, name) in enumerate(TABLES.items(), 3)
    ]
    losses = Picture(folder, "figure3/losses.png", "Training loss over the epochs, with and without the search")
    folds = Picture(folder, "figure4/folds.png", f"Macro F1 of each of {FOLDS} folds of {TITLES['mnist']}, by method")
    chapters += [
        Chapter("table5", "Table 5: with and without a reservoir", _finished(folder / "table5" / RESULTS, _effects)),
        Chapter("table6", "Table 6: larger data", _finished(folder / "table6" / SIZES, _sizes)),
        Chapter("figure3", "Fig. 3: the reservoir of Table 2 and the one that was found", _drawn(losses)),
        Chapter("figure4", f"Fig. 4: macro F1 over {FOLDS} folds of {TITLES['mnist']}", _drawn(folds)),
    ]
    return chapters


def _finished(path: Path, parts: Callable[..., list[Part]], *extra: Any) -> list[Part]:
    """Return the parts of a chapter if the file of its results is there."""
    return parts(path, *extra) if path.exists() else [Words(_NOT_FINISHED)]


def _comparison(path: Path, folder: Path, data: str) -> list[Part]:
    comparison, timings = read_comparison(path.parent), read_timings(path.parent)
    picture = Picture(folder, f"{path.parent.name}/utilisation.png", "Processors busy over time, by method")
    return [
        *methods_table(data, comparison, timings),
        tests_table(comparison),
        utilisation_table(comparison, timings),
        *_drawn(picture),
    ]


def _effects(path: Path) -> list[Part]:
    return [effect_table([EffectRun.from_json(entry) for entry in _content(path)["runs"]])]


def _sizes(path: Path) -> list[Part]:
    return sizes_table(_content(path))


def _content(path: Path) -> dict[str, Any]:
    return read_sealed(path, f"Remove {path.parent} and start again.")


def _drawn(picture: Picture) -> list[Part]:
    return [picture if (picture.folder / picture.name).exists() else Words(_NOT_FINISHED)]
