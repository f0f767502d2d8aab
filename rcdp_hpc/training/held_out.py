"""A criterion of rows that the ranks share: what each rank keeps of its rows, and the value over all of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.model.criteria import Criterion
from rcdp_hpc.model.criteria.measured import RowNumbers
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root


class HeldOutAnswers:
    """Answers of a model for the held-out rows of this rank, as far as a criterion needs them.

    Of a criterion of predicted classes, ranks add their confusion matrices. Scores, and what a criterion of
    probabilities uses of each row, are gathered on rank 0 in the order of ranks. The value has the same bits for any
    number of ranks if the scores have.

    Parameters
    ----------
    by : Criterion
    """

    def __init__(self, by: Criterion) -> None:
        self.by = by
        self._labels: list[Tensor] = []
        self._answers: list[Tensor] = []

    def add(self, labels: Tensor, scores: Tensor) -> None:
        """Add rows on any device. Nothing is read back.

        Parameters
        ----------
        labels : torch.Tensor, shape (rows,), int64
        scores : torch.Tensor, shape (rows, classes)
            Probabilities if the criterion needs them.
        """
        self._labels.append(labels)
        self._answers.append(scores.argmax(1) if self.by.needs == "labels" else scores)

    def fitness(self, comm: Communicator) -> float:
        """Return the criterion over the rows of all ranks, negative if lower is better; NaN if undefined. Collective.

        One copy is read from the device.
        """
        if self.by.needs == "labels":
            return self._of_confusion(comm)
        local = self._local(len(self.by.classes))
        if self.by.needs == "probabilities":
            return self._of_row_numbers(comm, local)
        scores = comm.gather_rows(local)

        def value() -> float:
            assert scores is not None
            return self.by.fitness(scores[:, 0].astype(np.int64), scores[:, 1:].argmax(1), scores[:, 1:])

        return run_on_root(comm, value)

    def _of_row_numbers(self, comm: Communicator, local: NDArray[np.float64]) -> float:
        """Return the criterion from four numbers of each row, however many classes there are."""
        numbers = comm.gather_rows(RowNumbers.of(local[:, 0].astype(np.int64), local[:, 1:]).columns())

        def value() -> float:
            assert numbers is not None
            found = float(RowNumbers.of_columns(numbers).statistics()[self.by.name](None))
            return found if self.by.higher_is_better else -found

        return run_on_root(comm, value)

    def _of_confusion(self, comm: Communicator) -> float:
        classes = len(self.by.classes)
        labels, predicted = self._local(1).astype(np.int64).T
        places = np.bincount(labels * classes + predicted, minlength=classes**2)
        counts: NDArray[np.float64] = comm.allreduce(places.astype(np.float64))
        return self.by.fitness(*np.divmod(np.arange(classes**2), classes), None, counts)

    def _local(self, columns: int) -> NDArray[np.float64]:
        """Return labels and answers of this rank, shape (rows, 1 + columns)."""
        if not self._labels:
            return np.empty((0, 1 + columns))
        labels = torch.cat(self._labels).double()[:, None]
        answers = torch.cat(self._answers).double().reshape(len(labels), columns)
        return np.asarray(torch.cat([labels.to(answers.device), answers], 1).cpu().numpy())
