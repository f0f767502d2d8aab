"""The errors of a ridge readout on the validation rows, which select the penalty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.reservoir.device_ridge import scaling_sums_of
from rcdp_hpc.reservoir.device_sums import is_class
from rcdp_hpc.reservoir.ridge import RidgeReadout, one_hot, scaling_sums
from rcdp_hpc.training.held_out import HeldOutAnswers

if TYPE_CHECKING:
    from rcdp_hpc.training.solve.ridge_fit import Blocks, RowSource

# Largest size of the validation states that a rank stores while it tries penalties; larger ones are computed for each
# penalty again.
STORED_BYTES = 2**30
# The errors of each block are rounded to multiples of this number, so that their sum is exact in any order.
ERROR_STEP = 2.0**-30


def stored_bytes(source: RowSource) -> int:
    """Return the bytes of the validation states of all ranks if they are stored, otherwise 0."""
    size = source.validation_rows * source.width * 4
    return size if size <= STORED_BYTES else 0


class ValidationErrors:
    """The validation rows of a rank, by which the penalty is selected; their states are stored if they fit.

    Parameters
    ----------
    source : RowSource
    weights : numpy.ndarray, shape (classes,), optional
        Weight of a row of each class.
    """

    def __init__(self, source: RowSource, weights: NDArray[np.float64] | None) -> None:
        self.source = source
        self.weights = weights
        self._stored: list[list[tuple[torch.Tensor, torch.Tensor]]] | None = None

    def partitions(self) -> Iterable[Blocks]:
        """Return the blocks of states and class indices, by partition."""
        if stored_bytes(self.source) == 0:
            return self.source.validation()
        if self._stored is None:
            self._stored = [list(partition) for partition in self.source.validation()]
        return self._stored

    def sums_for(self, readout: RidgeReadout, answers: HeldOutAnswers | None = None) -> NDArray[np.float64]:
        """Return the sums of `scaling_sums`, the number of correct rows, and the sum of the weights.

        Parameters
        ----------
        readout : RidgeReadout
        answers : HeldOutAnswers, optional
            The scores of the rows are added to it.
        """
        counts = self.source.class_counts
        total = counts if self.weights is None else counts * self.weights
        shares = total / total.sum()
        if self.source.device is not None:
            return self._sums_on(self.source.device, readout, shares, answers)
        result = np.zeros(5)
        for partition in self.partitions():
            for states, labels in partition:
                scores, expected = readout.predict(states), labels.cpu().numpy()
                if answers is not None:
                    answers.add(labels, torch.from_numpy(scores))
                weight: Any = np.ones(len(expected)) if self.weights is None else self.weights[expected]
                targets = one_hot(expected, self.source.classes)
                scaling = scaling_sums(scores, targets, shares, weight)
                sums = [*scaling, np.count_nonzero(scores.argmax(1) == expected), weight.sum()]
                result += np.round(np.array(sums, dtype=np.float64) / ERROR_STEP) * ERROR_STEP
        return result

    @torch.no_grad()
    def _sums_on(
        self, device: torch.device, readout: RidgeReadout, shares: NDArray[np.float64], answers: HeldOutAnswers | None
    ) -> NDArray[np.float64]:
        """Return the sums of `sums_for`, which are read from the device once."""
        scores_of, shares_there = readout.placed(device), torch.from_numpy(shares).to(device)
        ones = np.ones(self.source.classes) if self.weights is None else self.weights
        class_weights = torch.from_numpy(ones).to(device)
        result = torch.zeros(5, dtype=torch.float64, device=device)
        for partition in self.partitions():
            for states, labels in partition:
                scores, expected = scores_of(states.to(device)), labels.to(device)
                if answers is not None:
                    answers.add(expected, scores)
                weight, targets = class_weights[expected], is_class(expected, self.source.classes)
                scaling = scaling_sums_of(scores, targets, shares_there, weight)
                counts = torch.stack([(scores.argmax(1) == expected).sum().double(), weight.sum()])
                result += (torch.cat([scaling, counts]) / ERROR_STEP).round() * ERROR_STEP
        return result.cpu().numpy()
