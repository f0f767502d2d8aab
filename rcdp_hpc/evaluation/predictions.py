"""``predictions.csv``: the true and the predicted class of each test sample."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.sample_ids import read_test_ids
from rcdp_hpc.evaluation.reliability import Reliability, write_reliability
from rcdp_hpc.model.answers import Answers
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.files import write_atomic
from rcdp_hpc.runtime.formulas import warn_of_formulas

log = logging.getLogger(__name__)

HEADER = ["part", "row", "class", "predicted", "probability", "correct"]


class TestPredictions:
    """Predictions of this rank's test rows, in the order of the shards."""

    # Tells pytest that the class is not a test.
    __test__ = False

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.float64]] = []
        self._reliability = Reliability()

    def add(self, source_index: NDArray[np.int64], labels: NDArray[np.int32], answers: Answers) -> None:
        """Add a block of rows.

        Parameters
        ----------
        source_index : ndarray of int64, shape (n,)
            Index of each sample in the source.
        labels : ndarray of int32, shape (n,)
            Class number of each sample.
        answers : Answers
            Of the n samples.
        """
        self._reliability.add(labels, answers)
        chosen = answers.probabilities[np.arange(len(answers)), answers.predicted]
        self._blocks.append(np.column_stack([source_index, labels, answers.predicted, chosen]).astype(np.float64))

    def write(
        self, comm: Communicator, shards: ShardReader, path: Path
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Write the predictions of all ranks to a CSV file, in the order of the source. Collective.

        ``reliability.json`` is written next to it.

        Columns: ``part``, the part of the source (``test``, or ``train`` if the test rows were split off the training
        data); ``row`` in that part, from 0; ``id`` if the source names its samples; ``class``; ``predicted``;
        ``probability`` of the predicted class as reported; ``correct``, "yes" or "no".

        Parameters
        ----------
        comm : Communicator
        shards : ShardReader
        path : Path
            The file, written by rank 0.

        Returns
        -------
        tuple of ndarray of int64, shape (test rows,), or None
            True and predicted classes in the order of the shards, on rank 0.
        """
        rows = comm.gather_rows(np.concatenate([np.empty((0, 4)), *self._blocks]))
        reliability = self._reliability.content(comm)

        def write() -> None:
            if rows is None:
                return
            write_reliability(path.parent, reliability)
            ids = read_test_ids(shards.directory, shards.index)
            write_atomic(path, lambda file: _write(file, rows, shards, ids))
            warn_of_formulas(log, path, {"column 'id'": ids or (), "columns 'class' and 'predicted'": shards.classes})

        agree(comm, write)
        return None if rows is None else (rows[:, 1].astype(np.int64), rows[:, 2].astype(np.int64))


def write_answers(path: Path, shards: ShardReader, predicted: NDArray[np.int64]) -> None:
    """Write the predictions of a model that gives no probabilities, as `TestPredictions.write` does.

    Parameters
    ----------
    path : Path
    shards : ShardReader
    predicted : ndarray of int64, shape (test rows,)
        Class numbers, in the order of the shards.
    """
    columns = shards.columns("test", 0, shards.rows("test"), ("source_index", "y"))
    unknown = np.full(len(predicted), np.nan)
    rows = np.column_stack([columns["source_index"], columns["y"], predicted, unknown]).astype(np.float64)
    ids = read_test_ids(shards.directory, shards.index)
    write_atomic(path, lambda file: _write(file, rows, shards, ids))


def _write(file: BinaryIO, rows: NDArray[np.float64], shards: ShardReader, ids: list[str] | None) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", errors="surrogateescape")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER if ids is None else [*HEADER[:2], "id", *HEADER[2:]])
    training = sum(int(entry["source"]) for entry in shards.index["class_table"])
    classes = shards.classes
    for place in np.argsort(rows[:, 0], kind="stable").tolist():
        source, label, predicted = (int(value) for value in rows[place, :3])
        part, row = ("train", source) if source < training else ("test", source - training)
        name = [] if ids is None else [ids[place]]
        correct = "yes" if label == predicted else "no"
        probability = "" if np.isnan(rows[place, 3]) else f"{rows[place, 3]:.6g}"
        writer.writerow([part, row, *name, classes[label], classes[predicted], probability, correct])
    # The caller closes the file.
    text.detach()
