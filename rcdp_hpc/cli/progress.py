"""Progress of a running search or training, read from its files without the lock."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import read_sealed, read_sealed_lines
from rcdp_hpc.runtime.progress import time_left
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.search.records.efficiency import NAME, read_usage

# The remaining time is estimated from this number of recent epochs or generations.
RECENT_EPOCHS = 5


@dataclass(frozen=True)
class StageProgress:
    """Progress of a running stage.

    Attributes
    ----------
    words : str
        What is done so far.
    seconds_left : float
        Estimated seconds to the end at the recent pace; early stopping may end the stage earlier. 0 if unknown.
    """

    words: str
    seconds_left: float

    @property
    def with_time(self) -> str:
        """What is done so far, and the remaining time."""
        return f"{self.words}, about {time_left(self.seconds_left)}" if self.seconds_left else self.words


def stage_progress(run: RunDirectory, stage: str) -> StageProgress | None:
    """Return the progress of a stage; None if its files do not show it."""
    try:
        if stage == "search":
            return _of_search(run)
        return _of_training(run) if stage == "train" else None
    except DataDamagedError as error:
        # The report about the other stages continues.
        return StageProgress(str(error), 0.0)
    except (KeyError, TypeError, AttributeError):
        return StageProgress(f"the files in {run.folder(stage)} are from another version of rcdp", 0.0)


def _of_search(run: RunDirectory) -> StageProgress | None:
    # A generation has several lines if it was interrupted, or evaluated on a part of the rows first.
    seconds: dict[int, float] = defaultdict(float)
    for usage in read_usage(run.search):
        seconds[usage.generation] += usage.wall
    if not seconds:
        return None
    # A selection without a search counts as one generation.
    done, generations = max(seconds), max(1, run.config().search.generations)
    words = f"generation {done} of {generations}"
    # The fitness of candidates that were evaluated on a part of the rows is not comparable.
    history = read_sealed_lines(run.search / "history.jsonl", growing=True)
    complete = [line["fitness"] for line in history if line.get("share", 1) == 1]
    fitness = [value for value in complete if value is not None]
    if fitness:
        words += f", best fitness {max(fitness):.5g}"
    return StageProgress(words, _rest(generations - done, list(seconds.values()), run.search / NAME))


def _of_training(run: RunDirectory) -> StageProgress | None:
    path = run.train / "metrics.jsonl"
    lines = read_sealed_lines(path, growing=True)
    epochs = run.config().training.epochs
    step = _step_in(run, len(lines))
    if not lines:
        return StageProgress(f"epoch 1 of {epochs}: {step}", 0.0) if step else None
    done = lines[-1]["epoch"] + 1
    words = f"epoch {done} of {epochs}, validation accuracy {100 * lines[-1]['validation_accuracy']:.2f} %"
    words += f"; {step} of epoch {done + 1}" if step else ""
    return StageProgress(words, _rest(epochs - done, [line["seconds"] for line in lines], path))


def _step_in(run: RunDirectory, epoch: int) -> str:
    """Return the progress within an epoch (counted from 0); empty if the training has not written any."""
    if not run.position_file.exists():
        return ""
    position = read_sealed(run.position_file)
    return f"step {position['step']} of {position['steps']}" if position["epoch"] == epoch else ""


def _rest(units: int, seconds: list[float], path: Path) -> float:
    """Return the seconds for `units` more epochs or generations, minus the time since `path` was written."""
    if units <= 0:
        return 0.0
    each = statistics.median(seconds[-RECENT_EPOCHS:])
    return units * each - min(max(0.0, time.time() - path.stat().st_mtime), each)
