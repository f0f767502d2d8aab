"""The map from raw to standardised values, stored in shards and models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["none", "standard", "robust", "series"]


@dataclass(frozen=True, eq=False)
class Standardization:
    """The map from raw to stored values: ``(value - center) / deviation`` for each feature.

    Attributes
    ----------
    method : {"none", "standard", "robust", "series"}
        "series" uses the mean and standard deviation of each series, "none" does not change values.
    center, deviation : ndarray of float64, shape (F,)
        One value for each entry of a sample's last axis; F = 1 if a sample is one feature (grey images).
    fill : ndarray of float64, shape (F,), or None
        Replaces missing values before the map; None refuses missing values.
    mask : tuple of int
        Features with a mask channel, ascending: the last entries of a stored sample's last axis, one for each of these
        features, are 1 if its value is missing and 0 if not. They are not standardised.
    """

    method: Method
    center: NDArray[np.float64]
    deviation: NDArray[np.float64]
    fill: NDArray[np.float64] | None = None
    mask: tuple[int, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether the map changes any value."""
        return self.method != "none" or self.fill is not None

    def stored_shape(self, raw: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a stored sample, from that of a raw one."""
        return (*raw[:-1], raw[-1] + len(self.mask)) if self.mask else raw

    def raw_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a raw sample, from that of a stored one."""
        return (*stored[:-1], stored[-1] - len(self.mask)) if self.mask else stored

    def apply(self, raw: NDArray[Any], scale: float, lengths: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return samples as the shards store them.

        Differences are computed in float64, so that large values with small differences stay different.

        Parameters
        ----------
        raw : ndarray, shape (n, *sample_shape)
            Raw samples of the source.
        scale : float
            Value = raw number * scale.
        lengths : ndarray of int64, shape (n,), optional
            Steps of each series; later steps are padding and become 0.

        Returns
        -------
        ndarray of float32, shape (n, *sample_shape)
            With the mask channels after the features, if there are any.
        """
        x = raw.astype(np.float64) * scale
        missing = np.isnan(x[..., list(self.mask)]) if self.mask else None
        if self.fill is not None:
            x = np.where(np.isnan(x), self.fill, x)
        padding = None if lengths is None else np.arange(x.shape[1]) >= lengths[:, None]
        if self.method == "series":
            x = _per_series(x, padding)
        elif self.method != "none":
            x = (x - self.center) / self.deviation
        if missing is not None:
            x = np.concatenate([x, missing], axis=-1)
        if padding is not None:
            x[padding] = 0
        with np.errstate(over="ignore"):
            return x.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return the content as plain lists, for index.json and model files."""
        return {
            "method": self.method,
            "center": self.center.tolist(),
            "deviation": self.deviation.tolist(),
            "fill": None if self.fill is None else self.fill.tolist(),
            "mask": list(self.mask),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any] | None) -> Standardization | None:
        """Return the map that `to_json` wrote; None for None, which files of earlier versions hold."""
        if content is None:
            return None
        fill = content.get("fill")
        return cls(
            content["method"],
            np.array(content["center"], np.float64),
            np.array(content["deviation"], np.float64),
            None if fill is None else np.array(fill, np.float64),
            tuple(content.get("mask", ())),
        )


def raw_shape(standardization: Standardization | None, stored: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a raw sample, from that of a stored one and the map between them, if there is one."""
    return stored if standardization is None else standardization.raw_shape(stored)


def _per_series(x: NDArray[np.float64], padding: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Bring each feature of each series to mean 0 and standard deviation 1 over the steps of that series."""
    held = np.ones(x.shape[:2], bool) if padding is None else ~padding
    weight = held[:, :, None] / held.sum(1)[:, None, None]
    mean = (x * weight).sum(1, keepdims=True)
    deviation = np.sqrt((np.square(x - mean) * weight).sum(1, keepdims=True))
    return (x - mean) / np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)
