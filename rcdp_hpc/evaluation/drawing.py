"""Pictures of a report. If a picture cannot be drawn, the stage logs the reason and continues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError, RcdpError, StageFailedError
from rcdp_hpc.evaluation.reliability import FILE, read_reliability
from rcdp_hpc.runtime.rundir import RunDirectory

log = logging.getLogger(__name__)


def draw_report(run: RunDirectory, confusion: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Draw ``confusion.png`` and ``reliability.png`` into the report, and what the training recorded.

    ``training.png`` if the readout was trained in epochs, ``sizes.png`` if features of a ridge readout were removed.
    """

    def matrix(path: Path) -> None:
        from rcdp_hpc.evaluation.pictures import draw_confusion

        draw_confusion(confusion, list(classes), path)

    def curves(path: Path) -> None:
        from rcdp_hpc.evaluation.pictures import draw_training

        draw_training(run.train / "metrics.jsonl", path)

    def sizes(path: Path) -> None:
        from rcdp_hpc.evaluation.size_picture import draw_sizes

        draw_sizes(run.train / "sizes.json", path)

    def levels(path: Path) -> None:
        from rcdp_hpc.evaluation.reliability_picture import draw_reliability

        draw_reliability(read_reliability(run.report), path)

    attempt(run.report / "confusion.png", matrix)
    if (run.report / FILE).exists():
        attempt(run.report / "reliability.png", levels)
    if (run.train / "sizes.json").exists():
        attempt(run.report / "sizes.png", sizes)
    if (run.train / "metrics.jsonl").exists():  # a solved readout has no epochs
        attempt(run.report / "training.png", curves)


def draw_folds_of(run: RunDirectory, measures: dict[str, list[float]]) -> None:
    """Draw ``folds.png`` into the report of a cross-validation."""

    def folds(path: Path) -> None:
        from rcdp_hpc.evaluation.pictures import draw_folds

        draw_folds(measures, path)

    attempt(run.report / "folds.png", folds)


def draw_class_table(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the number of rows of each class before and after balancing.

    Parameters
    ----------
    table : sequence of dict
        The ``class_table`` of an index of shards.
    path : Path
        The file to write.

    Raises
    ------
    RcdpError
        As `draw_or_explain`.
    """

    def bars(path: Path) -> None:
        from rcdp_hpc.evaluation.pictures import draw_class_counts

        counts = {name: [entry[name] for entry in table] for name in ("before", "after")}
        draw_class_counts([entry["class"] for entry in table], counts, path)

    draw_or_explain(path, bars)


def attempt(path: Path, draw: Callable[[Path], Any]) -> bool:
    """Draw a picture of a report; log the file and the reason if that fails.

    Parameters
    ----------
    path : Path
        The file of the picture. If drawing fails, an earlier picture is removed, since it shows another result.
    draw : callable
        Draws the picture into a file. It imports matplotlib itself.

    Returns
    -------
    bool
        Whether the picture was drawn.
    """
    try:
        draw(path)
    except ModuleNotFoundError as error:
        log.info("%s is not drawn: %s is not installed (pip install 'rcdp_hpc[report]')", path.name, error.name)
    except Exception as error:  # the result itself is complete
        log.warning("%s could not be drawn: %s", path, _reason(error))
    else:
        log.info("drew %s", path)
        return True
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.debug("%s: not removed (%s)", path, error)
    return False


def draw_or_explain(path: Path, draw: Callable[[Path], Any]) -> None:
    """Draw a picture that the user asked for.

    Raises
    ------
    RcdpError
        If it cannot be drawn: an `InputError` if matplotlib is missing.
    """
    try:
        draw(path)
    except ModuleNotFoundError as error:
        raise InputError(
            f"drawing a picture needs {error.name}, which is not installed: pip install 'rcdp_hpc[report]'."
        ) from None
    except RcdpError:
        raise
    except Exception as error:
        raise StageFailedError(f"{path}: the picture could not be drawn ({_reason(error)})") from error
    log.info("drew %s", path)


def _reason(error: Exception) -> str:
    if isinstance(error, RcdpError):
        return str(error)
    first, *_ = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first}"[:300]
