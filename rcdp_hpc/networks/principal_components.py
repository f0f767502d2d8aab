"""Principal components of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Rows whose products are added at once.
BLOCK = 8192
# Added to the variance of a component before it is scaled, as a fraction of the largest one: a component that hardly
# varies does not become noise.
VARIANCE_FLOOR = 1e-6


@dataclass(frozen=True)
class Components:
    """Principal components.

    Attributes
    ----------
    mean : numpy.ndarray, shape (inputs,), float64
    matrix : numpy.ndarray, shape (components, inputs), float64
        By variance, largest first. The entry with the largest absolute value of each is positive.
    share : float
        Share of the variance that they keep.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]
    share: float


def principal_components(rows: NDArray[np.float32], components: int, whiten: bool) -> Components:
    """Return the axes with the largest variances, the eigenvectors of the covariance of the rows (Pearson 1901).

    Parameters
    ----------
    rows : numpy.ndarray, shape (rows, inputs), float32
    components : int
        At most `inputs`.
    whiten : bool
        Divide each axis by the standard deviation along it.
    """
    mean = rows.mean(0, dtype=np.float64)
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), BLOCK):
        centred = rows[start : start + BLOCK] - mean
        covariance += centred.T @ centred
    values, axes = np.linalg.eigh(covariance / len(rows))
    values = np.maximum(values[::-1], 0)
    axes = axes[:, ::-1][:, :components]
    # The sign of an eigenvector is arbitrary.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(components)])
    total = values.sum()
    share = float(values[:components].sum() / total) if total > 0 else 1.0
    if whiten:
        floor = max(VARIANCE_FLOOR * values[0], np.finfo(np.float32).tiny)
        axes = axes / np.sqrt(values[:components] + floor)
    return Components(mean, axes.T, share)
