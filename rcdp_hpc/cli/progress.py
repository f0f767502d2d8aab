"""How far a search or a training has come, by the files that it leaves on its way; reads without the lock."""

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

# What the time still needed is told by: so many epochs or generations.
RECENT_EPOCHS = 5


@dataclass(frozen=True)
class StageProgress:
    """A stage under way.

    Attributes
    ----------
    words : str
        What is done.
    seconds_left : float
        What the rest takes where it goes on as lately and nothing ends it early.
    """

    words: str
    seconds_left: float

    @property
    def with_time(self) -> str:
        """What is done, and how long the rest takes."""
        return f"{self.words}, about {time_left(self.seconds_left)}" if self.seconds_left else self.words


def stage_progress(run: RunDirectory, stage: str) -> StageProgress | None:
    """Return how far a stage has come, None where its files do not tell."""
    try:
        if stage == "search":
            return _of_search(run)
        return _of_training(run) if stage == "train" else None
    except DataDamagedError as error:
        # The other stages are to be told of all the same.
        return StageProgress(str(error), 0.0)
    except (KeyError, TypeError, AttributeError):
        return StageProgress(f"the files in {run.folder(stage)} are not those of this version", 0.0)


def _of_search(run: RunDirectory) -> StageProgress | None:
    # A generation that was interrupted, or judged by a part of the rows first, has several lines.
    seconds: dict[int, float] = defaultdict(float)
    for usage in read_usage(run.search):
        seconds[usage.generation] += usage.wall
    if not seconds:
        return None
    # A selection alone is one generation.
    done, generations = max(seconds), max(1, run.config().search.generations)
    words = f"generation {done} of {generations}"
    # A candidate that was judged by a part of the rows only is not to be compared.
    history = read_sealed_lines(run.search / "history.jsonl", growing=True)
    found = [line["fitness"] for line in history if line.get("share", 1) == 1]
    fitness = [value for value in found if value is not None]
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
    """Return how far a training is within an epoch, counted from 0; empty if it has written nothing about it."""
    if not run.position_file.exists():
        return ""
    position = read_sealed(run.position_file)
    return f"step {position['step']} of {position['steps']}" if position["epoch"] == epoch else ""


def _rest(units: int, seconds: list[float], path: Path) -> float:
    """Return the seconds that so many more units take, less what passed since the last was written down."""
    if units <= 0:
        return 0.0
    each = statistics.median(seconds[-RECENT_EPOCHS:])
    return units * each - min(max(0.0, time.time() - path.stat().st_mtime), each)
