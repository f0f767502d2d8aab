"""The validation rows of a size curve on the device of their states; see `rcdp_hpc.training.solve.size_curve`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.reservoir.device_ridge import scaling_sums_of
from rcdp_hpc.reservoir.device_sums import is_class
from rcdp_hpc.reservoir.elimination import Block
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import RidgeReadout, standardised_gram
from rcdp_hpc.training.held_out import HeldOutAnswers
from rcdp_hpc.training.solve.ridge_fit import Blocks
from rcdp_hpc.training.solve.validation_errors import ERROR_STEP


class DeviceValidationRows:
    """The rows of `ValidationRows` on a device; parameters and results are the same, but for the last digits.

    Parameters
    ----------
    sums : GramSums
        Of the training rows, in main memory.
    partitions : iterable of iterables of (torch.Tensor, torch.Tensor)
    class_weights : numpy.ndarray, shape (classes,), optional
    device : torch.device

    Attributes
    ----------
    rows : torch.Tensor, shape (rows, features), float32
    labels : torch.Tensor, shape (rows,), int64
    """

    def __init__(
        self,
        sums: GramSums,
        partitions: Iterable[Blocks],
        class_weights: NDArray[np.float64] | None,
        device: torch.device,
    ) -> None:
        _, self.scale = standardised_gram(sums)
        self.device = device
        self.shares = self._there(sums.y / sums.count)
        scale, mean = self._there(self.scale), self._there(sums.x / sums.count)
        parts, labels = [torch.empty((0, len(mean)), device=device)], [torch.empty(0, dtype=torch.int64, device=device)]
        for partition in partitions:
            for states, classes in partition:
                parts.append(((states.to(device, torch.float64) - mean) * scale).float())
                labels.append(classes.to(device))
        self.rows, self.labels = torch.cat(parts), torch.cat(labels)
        ones = np.ones(len(self.shares)) if class_weights is None else class_weights
        self.weights = self._there(ones)[self.labels]

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def scores(self, weights: NDArray[np.float64], features: NDArray[np.int64] | None = None) -> Tensor:
        """Return the scores of the readout with these weights for standardised features, as `ValidationRows.scores`."""
        rows = self.rows if features is None else self.rows[:, self._there(features)]
        return torch.addmm(self.shares.float(), rows, self._there(weights).float())

    def error_sums(
        self, readout: RidgeReadout, features: NDArray[np.int64], answers: HeldOutAnswers | None = None
    ) -> NDArray[np.float64]:
        """Return the numbers of `ValidationRows.error_sums`, read from the device at once."""
        scale = self.scale[features][:, None]
        weights = np.divide(readout.weights, scale, out=np.zeros_like(readout.weights), where=scale > 0)
        scores = self.scores(weights, features)
        if answers is not None:
            answers.add(self.labels, scores)
        targets = is_class(self.labels, scores.shape[1])
        sums = torch.cat([scaling_sums_of(scores, targets, self.shares, self.weights), self.weights.sum()[None]])
        correct = (scores.argmax(1) == self.labels).sum().double()[None]
        found = torch.cat([(sums / ERROR_STEP).round() * ERROR_STEP, correct]).cpu().numpy()
        return np.array([*found[:-1], len(scores), found[-1]])

    def scores_without(self, weights: NDArray[np.float64]) -> DeviceScores:
        """Return the scores of all features, from which features are removed."""
        return DeviceScores(self, weights)

    def _there(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.device)


class DeviceScores:
    """The scores of validation rows on a device while features are removed."""

    def __init__(self, validation: DeviceValidationRows, weights: NDArray[np.float64]) -> None:
        self.labels = validation.labels
        self.rows = validation.rows
        self.features = np.arange(len(weights))
        self.scores = validation.scores(weights)

    def correct(self) -> int:
        """Return the number of rows whose label has the largest score."""
        return int(self._correct())

    def without(self, block: Block) -> list[int]:
        """Remove the groups of a block, and return the number of correct rows after each, all read at once."""
        device, size = self.rows.device, block.columns.shape[1] // len(block.groups)
        if 2 * len(block.features) <= len(self.features):
            self.rows = self.rows[:, torch.from_numpy(np.searchsorted(self.features, block.features)).to(device)]
            self.features = block.features
        columns = np.zeros((len(self.features), block.columns.shape[1]), np.float32)
        columns[np.searchsorted(self.features, block.features)] = block.columns
        products = self.rows @ torch.from_numpy(columns).to(device)
        factors = torch.from_numpy(block.factors.astype(np.float32)).to(device)
        counts = []
        for number in range(len(block.groups)):
            of_group = slice(number * size, (number + 1) * size)
            self.scores.addmm_(products[:, of_group], factors[of_group], alpha=-1)
            counts.append(self._correct())
        return [int(count) for count in torch.stack(counts).tolist()]

    def _correct(self) -> Tensor:
        return (self.scores.argmax(1) == self.labels).sum()
