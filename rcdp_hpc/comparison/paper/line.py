"""A straight line by least squares, with the standard errors of its coefficients and of a prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """The line y = intercept + slope * x through n points.

    With m the mean of x, S = sum (x - m)^2 and the residual variance s^2 = RSS / (n - 2):
    slope_error = s / sqrt(S), intercept_error = s sqrt(1 / n + m^2 / S).

    Attributes
    ----------
    points : int
        n.
    intercept, slope : float
    intercept_error, slope_error, deviation : float or None
        Standard errors, and s; None for two points, through which every line is exact.
    mean, spread : float
        m and S.
    """

    points: int
    intercept: float
    slope: float
    intercept_error: float | None
    slope_error: float | None
    deviation: float | None
    mean: float
    spread: float

    @classmethod
    def through(cls, x: Sequence[float], y: Sequence[float]) -> Line | None:
        """Return the line of least squares; None if there are fewer than two different x."""
        xs, ys = np.array(x, np.float64), np.array(y, np.float64)
        count = len(xs)
        if len(set(xs.tolist())) < 2:
            return None
        mean = float(xs.mean())
        spread = float(((xs - mean) ** 2).sum())
        slope = float(((xs - mean) * (ys - ys.mean())).sum()) / spread
        intercept = float(ys.mean()) - slope * mean
        if count == 2:
            return cls(count, intercept, slope, None, None, None, mean, spread)
        residuals = ys - intercept - slope * xs
        deviation = math.sqrt(float((residuals**2).sum()) / (count - 2))
        errors = deviation * math.sqrt(1 / count + mean**2 / spread), deviation / math.sqrt(spread)
        return cls(count, intercept, slope, *errors, deviation, mean, spread)

    def at(self, x: float) -> Prediction:
        """Return the prediction of one further observation at `x`."""
        value = self.intercept + self.slope * x
        if self.deviation is None:
            return Prediction(x, value, None, None)
        from scipy.stats import t

        error = self.deviation * math.sqrt(1 + 1 / self.points + (x - self.mean) ** 2 / self.spread)
        return Prediction(x, value, error, error * float(t.ppf(0.975, self.points - 2)))


@dataclass(frozen=True)
class Prediction:
    """One further observation, as a line predicts it: s sqrt(1 + 1 / n + (x - m)^2 / S) is its standard error.

    Attributes
    ----------
    x, value : float
    error : float or None
        Standard error; None if the line has none.
    half_width : float or None
        Half the width of the 95 % interval: the error times the quantile of Student's t with n - 2 degrees of freedom.
    """

    x: float
    value: float
    error: float | None
    half_width: float | None
