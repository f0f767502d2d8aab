"""Random numbers of the matrices: streams of PCG64's raw output, and distributions made from them.

The streams use the raw 64-bit output of PCG64, which NumPy keeps stable over its versions (unlike the methods of
`numpy.random.Generator`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

# Append new names at the end: a stream's position is part of its seed.
STREAMS = (
    "mask", "weights", "input", "bias", "input_mask", "rewiring", "permutation", "memory", "mixing", "leak",
    "autoencoder", "autoencoder_bias", "projection",
)  # fmt: skip
# Numbers of a stream that are kept for the next candidate.
MOST_KEPT = 1 << 18
# Which of several reservoirs, (scan, layer); () is the first one.
Part = tuple[int, ...]


def stream(name: str, seed: int, part: Part = ()) -> np.random.PCG64:
    """Return the random stream of this name, independent of other names and of other parts with the same seed.

    Parameters
    ----------
    name : str
        One of `STREAMS`.
    seed : int
        The setting ``reservoir.seed``.
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first one.

    Returns
    -------
    numpy.random.PCG64
    """
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(STREAMS.index(name), *part)))


def symmetric(source: np.random.PCG64, count: int) -> NDArray[np.float64]:
    """Return uniform random numbers in [-1, 1), shape (count,): the upper 53 bits of each raw number."""
    return uniform(source.random_raw(count))


def shared_symmetric(name: str, seed: int, part: Part, count: int) -> NDArray[np.float64]:
    """Return the first numbers of a stream as `symmetric`, read-only: candidates of a search share them."""
    return _kept(name, seed, part, count) if count <= MOST_KEPT else symmetric(stream(name, seed, part), count)


@lru_cache(maxsize=4)
def _kept(name: str, seed: int, part: Part, count: int) -> NDArray[np.float64]:
    numbers = symmetric(stream(name, seed, part), count)
    numbers.setflags(write=False)
    return numbers


def uniform(raw: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return raw numbers as uniform numbers in [-1, 1), of the same shape: the upper 53 bits."""
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


@dataclass(frozen=True)
class Distribution:
    """A distribution of weights.

    Attributes
    ----------
    of_uniform : callable
        Maps uniform numbers v in [-1, 1), float64, to numbers of the distribution, one by one.
    variance : float
    """

    of_uniform: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    variance: float


def _normal(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard normal quantiles of (v + 1) / 2."""
    return np.asarray(ndtri(np.maximum((uniform + 1) / 2, 2.0**-54)))


def _signs(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the signs of v, 1 for 0."""
    return np.where(uniform < 0, -1.0, 1.0)


DISTRIBUTIONS = {
    "uniform": Distribution(lambda uniform: uniform, 1 / 3),
    "normal": Distribution(_normal, 1.0),
    "bernoulli": Distribution(_signs, 1.0),
}


def distributed(uniform: NDArray[np.float64], distribution: str) -> NDArray[np.float64]:
    """Map uniform numbers in [-1, 1) to numbers of a distribution, one by one.

    Parameters
    ----------
    uniform : numpy.ndarray, float64
    distribution : str
        A name of `DISTRIBUTIONS`.

    Returns
    -------
    numpy.ndarray, float64
        Of the same shape.
    """
    return DISTRIBUTIONS[distribution].of_uniform(uniform)
