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
        With ``validation_fitness`` the largest one is the best, and of equal ones that with the least validation loss;
        otherwise it is the least validation loss. Of equal epochs the first is.
    """
    return max(lines, key=_worth, default=None)


def _worth(line: dict[str, Any]) -> tuple[float, float]:
    loss = -_number(line["validation_loss"], math.inf)
    return _number(line.get("validation_fitness", loss), -math.inf), loss


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else default
