"""Criteria of a test in ``summary.json`` and in the log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rcdp_hpc.config.choices.criteria import CRITERIA, TITLES
from rcdp_hpc.model.criteria.measured import Measured
from rcdp_hpc.runtime.text import pad, plain_line

# Of more classes, the summary has no intervals of each.
MOST_CLASS_INTERVALS = 100
DIGITS = 6


def score_record(measured: Measured) -> dict[str, Any]:
    """Return criteria for ``summary.json`` (docs/formats.md).

    Returns
    -------
    dict
        The value of each criterion, and the list of each score of classes, by name, None if undefined; ``intervals``,
        the limits of each that has an interval; ``undefined`` and ``without_interval``, why not; ``resamples``.
    """
    intervals: dict[str, Any] = {name: _limits(limits) for name, limits in measured.intervals.items()}
    for name, limits in measured.class_intervals.items():
        if limits.shape[1] <= MOST_CLASS_INTERVALS:
            intervals[name] = [_limits(pair) for pair in limits.T]
    return {
        **{name: None if math.isnan(value) else value for name, value in measured.values.items()},
        **{name: _rounded(values) for name, values in measured.class_values.items()},
        "intervals": intervals,
        "undefined": measured.undefined,
        "without_interval": measured.without_interval,
        "resamples": measured.resamples,
    }


def _rounded(values: Iterable[float]) -> list[float | None]:
    """Return numbers with six digits, None for NaN."""
    return [None if math.isnan(value) else round(float(value), DIGITS) for value in values]


def _limits(pair: Iterable[float]) -> list[float | None] | None:
    """Return the limits of an interval with six digits; None if there is none."""
    limits = _rounded(pair)
    return None if None in limits else limits


def score_lines(test: Mapping[str, Any]) -> list[str]:
    """Return lines for the log: a table of the criteria with their 95 % intervals, and why some have none."""
    width = max(map(len, TITLES.values()))
    lines = [f"  {'measure':<{width}}   value  95 % interval"]
    for name in CRITERIA.names:
        if test.get(name) is not None:
            interval = test["intervals"].get(name)
            shown = "" if interval is None else f"  {interval[0]:.3f} to {interval[1]:.3f}"
            lines.append(f"  {pad(TITLES[name], width)}  {test[name]:6.3f}{shown}")
    raw = [f"{TITLES[name]} {value:.3f}" for name, value in test.get("uncalibrated", {}).items()]
    if raw:
        lines.append(f"  before calibration: {', '.join(raw)}")
    return [*lines, *reason_lines(test)]


def reason_lines(test: Mapping[str, Any]) -> list[str]:
    """Return lines that say which criteria have no value, or no interval, and why."""
    lines = []
    for key, lacks in (("undefined", "undefined"), ("without_interval", "no interval")):
        by_reason: dict[str, list[str]] = {}
        for name, reason in test.get(key, {}).items():
            by_reason.setdefault(reason, []).append(TITLES[name])
        lines += [f"  {lacks}: {', '.join(names)}: {plain_line(reason)}" for reason, names in by_reason.items()]
    return lines
