"""Steps of a Levy flight, by Mantegna's method."""

from __future__ import annotations

from math import gamma, pi, sin

import numpy as np
from numpy.typing import NDArray

BETA = 1.5


def levy_steps(
    u1: NDArray[np.float64], u2: NDArray[np.float64], v1: NDArray[np.float64], v2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return steps 0.01·u·sigma/abs(v)^(1/beta), beta = 1.5 (eq. 18 of the African vultures algorithm).

    u and v are standard normal, each computed from two uniform numbers (Box and Muller 1958).

    Parameters
    ----------
    u1, u2, v1, v2 : ndarray
        Independent uniform numbers in [0, 1), all of one shape.
    """
    sigma = (gamma(1 + BETA) * sin(pi * BETA / 2) / (gamma((1 + BETA) / 2) * BETA * 2 ** ((BETA - 1) / 2))) ** (
        1 / BETA
    )
    u = np.sqrt(-2.0 * np.log1p(-u1)) * np.cos(2.0 * pi * u2)
    v = np.sqrt(-2.0 * np.log1p(-v1)) * np.cos(2.0 * pi * v2)
    return 0.01 * u * sigma / np.maximum(np.abs(v), 1e-300) ** (1 / BETA)
