"""Floors: usual classifiers on the input itself, which show whether a comparison needs anything more."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import psutil
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.comparison.methods.base import Cell, Method, Outcome
from rcdp_hpc.comparison.methods.settings import reads_trained_extractor
from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.config.apply_defaults import completed_quietly
from rcdp_hpc.data.shards.reader import ShardReader, open_shards
from rcdp_hpc.data.split import Split
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.evaluation.confusion import result_of_test, write_cells
from rcdp_hpc.evaluation.predictions import write_answers
from rcdp_hpc.model.metrics import confusion_matrix
from rcdp_hpc.pipeline.stages import held
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.collective import run_on_root
from rcdp_hpc.runtime.ram import machine_memory
from rcdp_hpc.runtime.threads import limit_threads

BLOCK_ROWS = 4096
ROUNDING = 1e-7

Features = NDArray[np.float32]


class FittedModel(Protocol):
    """What `Floor.fit` returns: a classifier of scikit-learn, or anything that predicts."""

    def predict(self, features: Any) -> ArrayLike:
        """Return class numbers, shape (rows,), of features."""


@dataclass(frozen=True)
class Samples:
    """Rows of a split.

    Attributes
    ----------
    x : ndarray of float32, shape (rows, *sample_shape)
        Samples as in the shards; padding after the end of a series is 0.
    y : ndarray of int64, shape (rows,)
        Class numbers.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]


class Floor(Method):
    """A classifier that rank 0 fits to the training rows of the shards, with settings chosen on the validation rows.

    The training rows are those of every other method: balanced, with the synthetic rows. The first of the settings
    with the highest accuracy on the validation rows predicts the test rows. One thread, so that sums are the same on
    every machine.

    A subclass defines `fit`, and, if it has settings to choose, `candidates`.

    Attributes
    ----------
    copies : int
        Copies of the features that reading, scaling and fitting hold at the same time, for the check of the memory.
    """

    copies: int = 4

    def problem(self, config: Config, facts: DataFacts) -> str | None:
        """Return why the method cannot take the data; None if it can."""
        if reads_trained_extractor(config):
            return "it reads the input itself, not the output of an extractor: leave it out of the arm 'extractor'"
        return None

    def candidates(self) -> Sequence[Mapping[str, Any]]:
        """Return the settings to choose from, as keyword arguments of `fit`."""
        return ({},)

    def feature_map(self, train: Samples, facts: DataFacts, seed: int) -> Callable[[Samples], Features]:
        """Return the function from samples to features, fitted to the training rows; by default their scaled values."""
        return scaled_values(train, facts)

    def features_of(self, sample_shape: Sequence[int]) -> int:
        """Return the number of features of a sample, for the check of the memory; by default that of its values."""
        return math.prod(sample_shape)

    @abstractmethod
    def fit(self, features: Features, y: NDArray[np.int64], seed: int, **settings: Any) -> FittedModel:
        """Return a model of the training rows.

        Parameters
        ----------
        features : ndarray of float32, shape (rows, features)
        y : ndarray of int64, shape (rows,)
            Class numbers.
        seed : int
            ``run.seed``.
        **settings
            One of `candidates`.
        """

    def parameters(self, model: Any) -> int:
        """Return how many numbers of a model were fitted."""
        return sum(int(np.size(getattr(model, name, ()))) for name in ("coef_", "intercept_"))

    def run(self, cell: Cell) -> Outcome:
        """Fit, choose and test on rank 0. Collective."""
        with held(cell.run, cell.comm):
            return run_on_root(cell.comm, lambda: self._fitted_and_tested(cell))

    def _fitted_and_tested(self, cell: Cell) -> Outcome:
        shards = open_shards(completed_quietly(cell.config, cell.facts), cell.run.shards)
        classes = len(shards.classes)
        self._refuse_too_large(shards)
        with limit_threads(1):
            started = time.perf_counter()
            train, validation = read_samples(shards, "train"), read_samples(shards, "validation")
            features = self.feature_map(train, cell.facts, cell.config.run.seed)
            held_out = features(validation)
            best: tuple[float, Mapping[str, Any], FittedModel] | None = None
            for settings, model in self._fits(features(train), train.y, cell):
                accuracy = float(np.mean(_predicted(model, held_out, classes) == validation.y))
                if best is None or accuracy > best[0]:
                    best = accuracy, settings, model
            assert best is not None
            accuracy, settings, model = best
            fitted = time.perf_counter()
            test = read_samples(shards, "test")
            predicted = _predicted(model, features(test), classes)
        confusion = confusion_matrix(test.y, predicted, classes)
        write_cells(confusion, cell.run.report)
        write_answers(cell.run.report / "predictions.csv", shards, predicted)
        return Outcome(
            validation_accuracy=accuracy,
            test=result_of_test(confusion, shards.classes),
            chosen=dict(settings),
            parameters=self.parameters(model),
            timing={"train": fitted - started, "evaluate": time.perf_counter() - fitted},
        )

    def _fits(
        self, features: Features, y: NDArray[np.int64], cell: Cell
    ) -> Iterator[tuple[Mapping[str, Any], FittedModel]]:
        """Yield settings and model of each candidate while the seconds of the budget last; the first always."""
        started = time.perf_counter()
        for number, settings in enumerate(self.candidates()):
            signals.raise_if_stopped("fitting")
            spent = time.perf_counter() - started
            # The next fit takes about as long as the earlier ones.
            if number and cell.budget.seconds and spent * (number + 1) / number > cell.budget.seconds:
                return
            yield settings, self.fit(features, y, cell.config.run.seed, **settings)

    def _refuse_too_large(self, shards: ShardReader) -> None:
        """Raise a `StageFailedError` if the rows that the floor holds need more memory than is available."""
        rows = sum(shards.rows(split) for split in ("train", "validation", "test"))
        needed = 4 * rows * (self.copies * self.features_of(shards.sample_shape) + math.prod(shards.sample_shape))
        available = min(machine_memory(), psutil.virtual_memory().available)
        if needed > available:
            raise StageFailedError(
                f"{shards.directory}: this floor holds all rows in memory, which takes about {needed / 2**30:.1f} GiB, "
                f"and {available / 2**30:.1f} GiB are available: leave the method out of compare.methods, take fewer "
                "samples (data.max_samples), or use a larger machine"
            )


def read_samples(shards: ShardReader, split: Split) -> Samples:
    """Return all rows of a split, with 0 after the end of each series."""
    total = shards.rows(split)
    x = np.empty((total, *shards.sample_shape), np.float32)
    y = np.empty(total, np.int64)
    for start in range(0, total, BLOCK_ROWS):
        signals.raise_if_stopped("reading")
        rows = shards.read(split, start, min(start + BLOCK_ROWS, total))
        block = slice(start, start + len(rows.y))
        x[block], y[block] = rows.x, rows.y
        if rows.length is not None:
            x[block][np.arange(x.shape[1]) >= rows.length[:, None]] = 0.0
    return Samples(x, y)


def scaled_values(train: Samples, facts: DataFacts) -> Callable[[Samples], Features]:
    """Return the function that scales the values of a sample to mean 0 and standard deviation 1 over the training rows.

    The pixels of images share one mean and deviation: seldom lit pixels would get a huge scale of their own. Values
    that are the same in all rows stay 0.
    """
    rows = _flat(train.x)
    count, sums, squares = len(rows), np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for start in range(0, count, BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS].astype(np.float64)
        sums, squares = sums + block.sum(0), squares + (block * block).sum(0)
    mean, square = sums / count, squares / count
    if facts.kind == "images":
        mean, square = np.full_like(mean, mean.mean()), np.full_like(square, square.mean())
    deviation = np.sqrt(np.maximum(square - mean * mean, 0.0))
    # A deviation of this size is what rounding leaves of equal values.
    varies = deviation > ROUNDING * np.abs(mean)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    return partial(_scaled, mean=mean.astype(np.float32), scale=scale.astype(np.float32))


def _scaled(samples: Samples, mean: Features, scale: Features) -> Features:
    features: Features = _flat(samples.x) - mean
    features *= scale
    return features


def _flat(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x.reshape(len(x), -1)


def _predicted(model: FittedModel, features: Features, classes: int) -> NDArray[np.int64]:
    """Return the class numbers that a model predicts.

    Raises
    ------
    InputError
        If a model of the user's own predicts anything else.
    """
    predicted = np.asarray(model.predict(features))
    fits = predicted.shape == (len(features),) and predicted.dtype.kind in "iu"
    if not fits or predicted.min(initial=0) < 0 or predicted.max(initial=0) >= classes:
        raise InputError(
            f"{type(model).__name__}.predict returned {predicted.dtype} of the shape {predicted.shape} for "
            f"{len(features)} rows: expected a class number from 0 to {classes - 1} for each row (docs/extending.md)"
        )
    return predicted.astype(np.int64)
