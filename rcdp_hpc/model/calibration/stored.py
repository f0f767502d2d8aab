"""Calibrations as plain values in model files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rcdp_hpc.model.calibration.choose import MEASURES, Calibration, Calibrator
from rcdp_hpc.model.calibration.isotonic import IsotonicScores
from rcdp_hpc.model.calibration.scaling import ScaledScores
from rcdp_hpc.model.calibration.scores import Floats


def read_calibration(content: Mapping[str, Any], classes: int) -> Calibration:
    """Return the calibration of plain values.

    Raises
    ------
    ValueError, TypeError, LookupError
        If they are not as `rcdp_hpc.model.answer_rule.stored_rule` writes them.
    """
    kind, rows = content["rows"], content["class_rows"]
    if kind not in ("validation", "left-out") or len(rows) != classes or not all(type(row) is int for row in rows):
        raise ValueError("the rows of a calibration")
    before, after = ({key: float(content[name][key]) for key in MEASURES} for name in ("before", "after"))
    return Calibration(_calibrator(content, classes), kind, list(rows), before, after)


def _calibrator(content: Mapping[str, Any], classes: int) -> Calibrator:
    method = content["method"]
    if method in ("temperature", "vector"):
        factors, offsets = (_finite(content[name]) for name in ("factors", "offsets"))
        if factors.shape != (classes,) or offsets.shape != (classes,) or (factors <= 0).any():
            raise ValueError(f"expected {classes} factors above 0 and {classes} offsets")
        return ScaledScores(method, factors, offsets)
    if method != "isotonic":
        raise ValueError(f"unknown method {method!r}")
    places, values = ([_finite(one) for one in content[name]] for name in ("places", "values"))
    if len(places) != classes or len(values) != classes:
        raise ValueError(f"expected {classes} functions")
    for x, y in zip(places, values, strict=True):
        if x.ndim != 1 or not x.size or x.shape != y.shape or (np.diff(x) < 0).any() or not ((y > 0) & (y <= 1)).all():
            raise ValueError("a function that is not one of probabilities")
    return IsotonicScores(places, values)


def _finite(values: Any) -> Floats:
    numbers = np.array(values, np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("numbers that are not finite")
    return numbers
