"""What the model predicts for each test sample: the file in which wrongly classified samples are found."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.data.shards.sample_ids import read_test_ids
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.files import write_atomic
from rcdp_hpc.runtime.formulas import warn_of_formulas

log = logging.getLogger(__name__)

HEADER = ["part", "row", "class", "predicted", "probability", "correct"]


class TestPredictions:
    """Predictions of this rank's test rows, in the order of the shards."""

    # pytest takes classes of this name for tests.
    __test__ = False

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.float64]] = []

    def add(
        self, source_index: NDArray[np.int64], labels: NDArray[np.int32], probabilities: NDArray[np.float32]
    ) -> None:
        """Add a block of rows.

        Parameters
        ----------
        source_index : ndarray of int64, shape (n,)
            Index of each sample in the source.
        labels : ndarray of int32, shape (n,)
            Its class.
        probabilities : ndarray of float32, shape (n, classes)
        """
        predicted = probabilities.argmax(1)
        chosen = probabilities[np.arange(len(predicted)), predicted]
        self._blocks.append(np.column_stack([source_index, labels, predicted, chosen]).astype(np.float64))

    def write(self, comm: Communicator, shards: ShardSet, path: Path) -> NDArray[np.int64] | None:
        """Write the predictions of all ranks as a table, sorted by the samples' place in the source. Collective.

        The columns: the source's own ``test`` part or the part of its training data that was held out (``train``), the
        row in that part (from 0), the sample's ``id`` if the source has names, its class, the predicted class and its
        probability, and whether the two are the same.

        Returns
        -------
        ndarray of int64, shape (test rows,), or None
            On rank 0 the predicted classes in the order of the shards.
        """
        found = comm.gather_rows(np.concatenate([np.empty((0, 4)), *self._blocks]))

        def write() -> None:
            if found is None:
                return
            ids = read_test_ids(shards.directory, shards.index)
            write_atomic(path, lambda file: _write(file, found, shards, ids))
            warn_of_formulas(log, path, {"column 'id'": ids or (), "columns 'class' and 'predicted'": shards.classes})

        agree(comm, write)
        return None if found is None else found[:, 2].astype(np.int64)


def _write(file: BinaryIO, found: NDArray[np.float64], shards: ShardSet, ids: list[str] | None) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", errors="surrogateescape")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER if ids is None else [*HEADER[:2], "id", *HEADER[2:]])
    training = sum(int(entry["source"]) for entry in shards.index["class_table"])
    classes = shards.classes
    for place in np.argsort(found[:, 0], kind="stable").tolist():
        source, label, predicted = (int(value) for value in found[place, :3])
        part, row = ("train", source) if source < training else ("test", source - training)
        name = [] if ids is None else [ids[place]]
        correct = "yes" if label == predicted else "no"
        writer.writerow([part, row, *name, classes[label], classes[predicted], f"{found[place, 3]:.6g}", correct])
    # The file is the caller's to close.
    text.detach()
