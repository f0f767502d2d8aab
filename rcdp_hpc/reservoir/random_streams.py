"""Random numbers behind the matrices: streams of PCG64's raw output, and the distributions made of them.

The draws use the raw 64-bit output of PCG64, which NumPy keeps stable over its versions (unlike the
methods of `numpy.random.Generator`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

# New names go to the end: a stream's place is part of its seed.
STREAMS = ("mask", "weights", "input", "bias", "input_mask", "rewiring", "permutation", "memory", "mixing", "leak")
Part = tuple[int, ...]


def stream(name: str, seed: int, part: Part = ()) -> np.random.PCG64:
    """Return the random stream of this name: independent of other names, and of other parts, under the same seed.

    Parameters
    ----------
    name : str
        One of `STREAMS`.
    seed : int
        The setting ``reservoir.seed``.
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first.
    """
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(STREAMS.index(name), *part)))


def symmetric(source: np.random.PCG64, count: int) -> NDArray[np.float64]:
    """Draw uniform numbers in [-1, 1): the upper 53 bits of each raw draw."""
    raw: NDArray[np.uint64] = source.random_raw(count)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


def distributed(uniform: NDArray[np.float64], distribution: str) -> NDArray[np.float64]:
    """Turn uniform numbers v in [-1, 1) into those of a distribution, one by one.

    Parameters
    ----------
    uniform : numpy.ndarray, float64
    distribution : {"uniform", "normal", "bernoulli"}
        v itself; the standard normal quantile of (v + 1) / 2; the sign of v, 1 for 0.

    Returns
    -------
    numpy.ndarray
        Of the same shape.
    """
    if distribution == "normal":
        return np.asarray(ndtri(np.maximum((uniform + 1) / 2, 2.0**-54)))
    if distribution == "bernoulli":
        return np.where(uniform < 0, -1.0, 1.0)
    return uniform
