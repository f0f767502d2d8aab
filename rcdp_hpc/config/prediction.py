"""``[prediction]``: what a trained model answers for new samples."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator

from rcdp_hpc.config.section import Section


class PredictionSection(Section):
    """Probabilities and classes that a trained model reports for new samples."""

    calibration: Literal["auto", "none", "temperature", "vector", "isotonic"] = Field(
        "auto", description="how the probabilities of the model are calibrated on rows that it was not fitted to"
    )
    priors: list[float | str] = Field(
        default_factory=list,
        description="share of each class where the model is used, in class order or as 'CLASS=SHARE', if it differs "
        "from the share in the data; empty: as in the data",
    )
    thresholds: list[float | str] = Field(
        default_factory=list,
        description="probability from which on each class is answered, in class order or as 'CLASS=THRESHOLD'; above "
        "1 it is never answered; empty: the most probable class is answered",
    )
    costs: list[list[float]] = Field(
        default_factory=list,
        description="costs of answers, a row for each true class with the cost of each answered class, or with one "
        "cost for every wrong answer; the class with the least expected cost is answered; empty: no costs",
    )

    @field_validator("priors", "thresholds")
    @classmethod
    def _numbers(cls, entries: list[float | str]) -> list[float | str]:
        named = [isinstance(entry, str) and "=" in entry for entry in entries]
        if any(named) and not all(named):
            raise ValueError("expected a number for each class, or CLASS=NUMBER for each class, not both")
        values = [number_of(entry) for entry in entries]
        if not all(0 <= value < math.inf for value in values):
            raise ValueError("every entry must be a finite number of at least 0")
        return entries if any(named) else list(values)

    @field_validator("priors")
    @classmethod
    def _shares(cls, entries: list[float | str]) -> list[float | str]:
        if entries and not sum(map(number_of, entries)) > 0:
            raise ValueError("the shares must not all be 0")
        return entries

    @field_validator("thresholds")
    @classmethod
    def _reachable(cls, entries: list[float | str]) -> list[float | str]:
        values = [number_of(entry) for entry in entries]
        if any(value == 0 for value in values):
            raise ValueError("every threshold must be above 0")
        if values and min(values) > 1:
            raise ValueError("every threshold is above 1, which leaves no class that can be answered")
        return entries

    @field_validator("costs")
    @classmethod
    def _matrix(cls, rows: list[list[float]]) -> list[list[float]]:
        if any(len(row) not in (1, len(rows)) for row in rows):
            raise ValueError(f"every row must have one cost, or as many as there are rows ({len(rows)})")
        if not all(0 <= cost < math.inf for row in rows for cost in row):
            raise ValueError("every cost must be a finite number of at least 0")
        return rows

    @property
    def has_rule(self) -> bool:
        """Whether priors, thresholds or costs are stated."""
        return bool(self.priors or self.thresholds or self.costs)


def number_of(entry: float | str) -> float:
    """Return the number of an entry, or of one of the form CLASS=NUMBER; a ValueError if it has none."""
    text = entry.rpartition("=")[2] if isinstance(entry, str) else entry
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{entry!r}: expected a number or CLASS=NUMBER") from None
