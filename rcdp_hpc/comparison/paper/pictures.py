"""The pictures of the parts, from their results. Without matplotlib, or if one fails, the log says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rcdp_hpc.comparison.paper.settings import TITLES
from rcdp_hpc.comparison.results import read_comparison, read_timings
from rcdp_hpc.evaluation.drawing import attempt
from rcdp_hpc.runtime.digests import write_sealed

LOSSES = "losses.json"


def draw_use(folder: Path, title: str) -> None:
    """Draw ``utilisation.png`` of a comparison."""
    panels = {title: (read_comparison(folder), read_timings(folder))}

    def draw(path: Path) -> None:
        from rcdp_hpc.comparison.paper.figures import draw_utilisation

        draw_utilisation(panels, path)

    attempt(folder / "utilisation.png", draw)


def draw_losses_of(folder: Path, curves: Mapping[str, Mapping[str, list[float]]]) -> None:
    """Write the curves of Fig. 3 by data set and name, and draw them."""
    write_sealed(folder / LOSSES, {data: dict(named) for data, named in curves.items()})

    def draw(path: Path) -> None:
        from rcdp_hpc.comparison.paper.figures import draw_losses

        draw_losses({TITLES[data]: named for data, named in curves.items()}, path)

    attempt(folder / "losses.png", draw)


def draw_folds(folder: Path) -> None:
    """Draw ``folds.png`` of Fig. 4."""
    comparison = read_comparison(folder)

    def draw(path: Path) -> None:
        from rcdp_hpc.comparison.paper.figures import draw_folds_by_method

        draw_folds_by_method(comparison, path)

    attempt(folder / "folds.png", draw)
