"""What every source hands over: labelled samples in their own number format, and how to scale them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Part:
    """Samples that belong together: all of a source, or its training or test set.

    Attributes
    ----------
    x : ndarray, shape (N, *sample_shape)
        Raw samples, in the number format of the source (uint8 stays uint8).
    y : ndarray of int64, shape (N,)
        Class indices 0 to C - 1.
    """

    x: NDArray[Any]
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Source:
    """Labelled raw data before preparation.

    A sample's index in the source counts through `train` and then through `test`.

    Attributes
    ----------
    name : str
        Kind of source, as in ``data.source``.
    classes : list of str
        Names of the classes, in the order of their indices. Each has a sample in `train`.
    train : Part
        Samples to split.
    test : Part or None
        The source's own test set, where it has one.
    scale : float
        Value of a sample = raw number * scale.
    description : str
        One line for people.
    """

    name: str
    classes: list[str]
    train: Part
    test: Part | None
    scale: float
    description: str

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(int(length) for length in self.train.x.shape[1:])

    def samples(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return samples by their index in the source, scaled.

        Parameters
        ----------
        indices : ndarray of int64, shape (n,)
            Indices of `train` alone, or of `test` alone.

        Returns
        -------
        ndarray of float32, shape (n, *sample_shape)
        """
        if self.test is not None and len(indices) and indices[0] >= len(self.train):
            return to_float(self.test.x[indices - len(self.train)], self.scale)
        return to_float(self.train.x[indices], self.scale)

    def fingerprint(self) -> str:
        """Return the SHA-256 of samples, labels and class names, which tells one source from another."""
        digest = hashlib.sha256(repr((self.classes, self.scale)).encode())
        for part in (self.train, self.test):
            if part is not None:
                for array in (part.x, part.y):
                    digest.update(repr((array.shape, array.dtype.str)).encode())
                    digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def to_float(x: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Return raw * scale as float32, the one rule by which raw samples become numbers for the network."""
    return np.multiply(x, np.float32(scale), dtype=np.float32, casting="unsafe")


def default_scale(dtype: np.dtype[Any]) -> float:
    """Return the scale of a number format: bytes are image intensities 0 to 255, all else is taken as it is."""
    return 1.0 / 255.0 if dtype == np.uint8 else 1.0
