"""The best epoch of a training, from the lines of its ``metrics.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def best_epoch(lines: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the line of the best epoch; None if there is no line.

    Parameters
    ----------
    lines : sequence of dict
        Those of an epoch with ``validation_fitness`` have a criterion of ``training.criterion``, otherwise the epoch
        with the least validation loss is the best. Of equal epochs the first is.
    """
    return max(lines, key=_fitness, default=None)


def _fitness(line: dict[str, Any]) -> float:
    name, sign = ("validation_fitness", 1) if "validation_fitness" in line else ("validation_loss", -1)
    value = line[name]
    return sign * value if isinstance(value, int | float) and not math.isnan(value) else -math.inf
