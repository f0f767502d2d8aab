"""Prediction of arrays, or of a file, into memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import NewSamples, read_samples
from rcdp_hpc.data.sources.arrays import samples_of
from rcdp_hpc.data.sources.base import Findings
from rcdp_hpc.data.sources.frame_table import FrameTable
from rcdp_hpc.data.sources.python_values import is_frame, sample_arrays
from rcdp_hpc.data.sources.request import SampleRequest
from rcdp_hpc.data.sources.tables import read_samples as read_samples_of_table
from rcdp_hpc.deploy.formats.base import Block, Predictions
from rcdp_hpc.deploy.predict import check_source_code, predict_new
from rcdp_hpc.model.prediction_model import PredictionModel
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree

# Names the samples in messages.
ARRAY = Path("samples")
# Bytes of one broadcast.
PIECE = 2**26


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted classes of new samples.

    Attributes
    ----------
    classes : list of str
        Names of the classes.
    counts : dict of str to int
        Number of samples predicted as each class.
    probabilities : ndarray of float32, shape (n, classes), or None
        In the order of the samples; None if they were written to a file.
    answers : ndarray of int64, shape (n,), or None
        Index of the class that is answered for each sample; None if the predictions were written to a file.
    disagreement : ndarray of float32, shape (n,), or None
        Disagreement of the members of an ensemble.
    kind : str
        What the probabilities are: "p" of the model itself, "calibrated_p", "p_at_priors" or
        "calibrated_p_at_priors".
    ids : list of str or None
        Name of each sample; None if samples have only numbers.
    """

    classes: list[str]
    counts: dict[str, int]
    probabilities: NDArray[np.float32] | None = None
    ids: list[str] | None = None
    answers: NDArray[np.int64] | None = None
    disagreement: NDArray[np.float32] | None = None
    kind: str = "p"

    @property
    def indices(self) -> NDArray[np.int64]:
        """Index of the class that is answered for each sample, shape (n,)."""
        if self.answers is None:
            raise ValueError("the predictions were written to a file and are not kept in memory")
        return self.answers

    @property
    def labels(self) -> NDArray[np.str_]:
        """Name of the class that is answered for each sample, shape (n,)."""
        return np.array(self.classes)[self.indices]


class _Memory:
    """Keeps the predictions of all samples."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def write(self, predictions: Predictions) -> None:
        self.blocks = list(predictions.blocks)

    def numbers(self, columns: int) -> NDArray[np.float64]:
        """Return rows of class, probabilities and, with an ensemble, disagreement."""
        rows = [np.empty((0, columns))]
        for block in self.blocks:
            last = [] if block.disagreement is None else [block.disagreement]
            rows.append(np.column_stack([block.labels, block.probabilities, *last]).astype(np.float64))
        return np.concatenate(rows)


def predict_in_memory(
    model: PredictionModel,
    samples: Any,
    reading: DataSection | None,
    comm: Communicator,
    any_scale: bool = False,
    allow_code: bool = False,
) -> Prediction:
    """Return the predictions of samples on every rank. Collective.

    Parameters
    ----------
    model : PredictionModel
    samples : str, Path, array_like or list of array_like
        As in `rcdp_hpc.predict`.
    reading : DataSection or None
        How samples are read.
    comm : Communicator
    any_scale, allow_code : bool
        As in `rcdp_hpc.deploy.predict.predict`.

    Raises
    ------
    InputError
        As in `rcdp_hpc.deploy.predict.predict`.
    """
    is_file = isinstance(samples, str | Path)
    path = Path(samples) if is_file else ARRAY
    if is_file:
        agree(comm, partial(check_source_code, reading, model, Path(model.where), allow_code))
    new = agree(comm, lambda: _file(model, path, reading) if is_file else new_samples(model, samples, reading))
    memory = _Memory()
    counts = predict_new(comm, model, new, path, reading, memory if comm.is_root else None, any_scale=any_scale)
    classes = len(model.classes)
    numbers = _on_all_ranks(comm, memory.numbers(1 + classes + model.has_disagreement))
    return Prediction(
        list(model.classes),
        comm.broadcast(counts),
        numbers[:, 1 : 1 + classes].astype(np.float32),
        None if new.ids is None else list(new.ids),
        numbers[:, 0].astype(np.int64),
        numbers[:, -1].astype(np.float32) if model.has_disagreement else None,
        model.kind,
    )


def _file(model: PredictionModel, path: Path, reading: DataSection | None) -> NewSamples:
    shape = model.raw_shape
    return read_samples(path, reading, shape[0], model.data.columns, shape, working_directory=False)


def new_samples(model: PredictionModel, samples: Any, reading: DataSection | None) -> NewSamples:
    """Return samples in memory in the form of those that a file holds.

    Parameters
    ----------
    model : PredictionModel
    samples : array_like, DataFrame or list of array_like
        As in `rcdp_hpc.predict`.
    reading : DataSection or None
        How samples of files are read; decides about missing values.

    Raises
    ------
    InputError
        If they are not numbers, or columns of the model are missing.
    """
    if is_frame(samples) and model.data.columns is not None:
        data, shape = reading or DataSection(), model.raw_shape
        request = SampleRequest(ARRAY, data, shape[0], model.data.columns, shape)
        return read_samples_of_table(request, [FrameTable(ARRAY, samples)])
    arrays = sample_arrays(str(ARRAY), np.asarray(samples) if is_frame(samples) else samples)
    return samples_of(ARRAY, arrays, reading or DataSection(), model.raw_shape[0], Findings(), model.raw_shape)


def _on_all_ranks(comm: Communicator, array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rank 0's array on every rank."""
    if comm.size == 1:
        return array
    rows, columns = comm.broadcast(array.shape)
    size = max(1, PIECE // max(1, 8 * columns))
    pieces = [comm.broadcast(array[start : start + size]) for start in range(0, rows, size)]
    return np.concatenate([np.empty((0, columns)), *pieces])
