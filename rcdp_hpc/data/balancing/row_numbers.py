"""Running imbalanced-learn's samplers on the row numbers of one class, without the samples."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray


def class_seed(seed: int, label: int) -> int:
    """Return the seed of the random numbers of one class."""
    return int(np.random.SeedSequence([seed, label]).generate_state(1)[0])


def sampled_rows(sampler_type: Any, count: int, target: int, seed: int) -> NDArray[np.int64]:
    """Return the rows that a sampler selects.

    Parameters
    ----------
    sampler_type : class
        One of imbalanced-learn's samplers that select rows.
    count : int
        Rows of the class.
    target : int
        Rows to select.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    ndarray of int64, shape (target,)
        Row numbers below `count`.
    """
    sampler = sampler_type(sampling_strategy={0: target}, random_state=seed)
    resample_row_numbers(sampler, count)
    selected: NDArray[np.int64] = sampler.sample_indices_
    return selected[selected < count]


def resample_row_numbers(sampler: Any, count: int) -> None:
    """Run a sampler on the numbers 0 to `count` - 1 as the only feature of class 0."""
    # imbalanced-learn needs two classes: one more row is the second class. No result contains it.
    numbers = np.arange(count + 1, dtype=np.float64)[:, None]
    labels = np.zeros(count + 1, np.int64)
    labels[-1] = 1
    with warnings.catch_warnings():
        # imbalanced-learn warns if a class grows beyond the largest one, which is the class itself here.
        warnings.filterwarnings("ignore", message="After over-sampling", category=UserWarning)
        sampler.fit_resample(numbers, labels)
