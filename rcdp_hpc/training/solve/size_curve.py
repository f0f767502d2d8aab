"""The validation accuracy of a ridge readout at every size, from the sums of the training rows and one elimination.

The penalty and the size are selected by validation rows. No test row is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.model.criteria import Criterion
from rcdp_hpc.reservoir.elimination import Block, Elimination, sums_of_features
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import (
    RidgeReadout,
    best_by,
    best_of_all,
    one_hot,
    scaled_error,
    scaling_sums,
    solve,
    standardised_gram,
)
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.training.held_out import HeldOutAnswers
from rcdp_hpc.training.solve.device_validation_rows import DeviceValidationRows
from rcdp_hpc.training.solve.ridge_fit import Blocks
from rcdp_hpc.training.solve.validation_errors import ERROR_STEP

DOING = "eliminating features"


class ValidationRows:
    """The validation rows of a rank in memory, standardised by the sums of the training rows.

    Parameters
    ----------
    sums : GramSums
        Of the training rows.
    partitions : iterable of iterables of (torch.Tensor, torch.Tensor)
        Blocks of features (rows, features) and class indices (rows,).
    class_weights : numpy.ndarray, shape (classes,), optional
        Weight of a row of each class in the sums.

    Attributes
    ----------
    rows : numpy.ndarray, shape (rows, features), float32
    labels : numpy.ndarray, shape (rows,), int64
    """

    def __init__(
        self, sums: GramSums, partitions: Iterable[Blocks], class_weights: NDArray[np.float64] | None = None
    ) -> None:
        _, self.scale = standardised_gram(sums)
        self.mean = sums.x / sums.count
        self.shares = sums.y / sums.count
        parts, labels = [np.empty((0, len(self.mean)), np.float32)], [np.empty(0, np.int64)]
        for partition in partitions:
            for states, classes in partition:
                standard = (states.double().cpu().numpy() - self.mean) * self.scale
                parts.append(standard.astype(np.float32))
                labels.append(classes.cpu().numpy())
        self.rows = np.concatenate(parts)
        self.labels = np.concatenate(labels)
        self.weights = np.ones(len(self.labels)) if class_weights is None else class_weights[self.labels]

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def scores_without(self, weights: NDArray[np.float64]) -> _Scores:
        """Return the scores of all features, from which features are removed."""
        return _Scores(self, weights)

    def scores(self, weights: NDArray[np.float64], features: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return the scores (rows, outputs) of the readout with weights (f, outputs) for these standardised features.

        The mean score is the mean target, as that of every ridge readout with an intercept.
        """
        rows = self.rows if features is None else self.rows[:, features]
        scores: NDArray[np.float32] = rows @ weights.astype(np.float32) + self.shares.astype(np.float32)
        return scores

    def error_sums(
        self, readout: RidgeReadout, features: NDArray[np.int64], answers: HeldOutAnswers | None = None
    ) -> NDArray[np.float64]:
        """Return the sums for `scaled_error`, those of the weights and of the rows, and the number of correct rows.

        Parameters
        ----------
        readout : RidgeReadout
            For these raw features.
        features : numpy.ndarray, shape (f,), int64
        answers : HeldOutAnswers, optional
            The scores of the rows are added to it.
        """
        scale = self.scale[features]
        weights = np.divide(
            readout.weights, scale[:, None], out=np.zeros_like(readout.weights), where=scale[:, None] > 0
        )
        scores = self.scores(weights, features)
        if answers is not None:
            answers.add(torch.from_numpy(self.labels), torch.from_numpy(scores))
        targets = one_hot(self.labels, scores.shape[1])
        sums = [*scaling_sums(scores, targets, self.shares, self.weights), self.weights.sum()]
        rounded = np.round(np.array(sums, dtype=np.float64) / ERROR_STEP) * ERROR_STEP
        return np.array([*rounded, len(scores), np.count_nonzero(scores.argmax(1) == self.labels)])


def validation_rows(
    sums: GramSums,
    partitions: Iterable[Blocks],
    class_weights: NDArray[np.float64] | None,
    device: torch.device | None,
) -> ValidationRows | DeviceValidationRows:
    """Return the validation rows of a rank in main memory, or on the device of their states."""
    if device is None:
        return ValidationRows(sums, partitions, class_weights)
    return DeviceValidationRows(sums, partitions, class_weights, device)


@dataclass(frozen=True)
class SizeCurve:
    """The result of an elimination: what is removed in which order, and the accuracy with what is left.

    Attributes
    ----------
    groups : numpy.ndarray, shape (G, g), int64
        Features of each group.
    order : numpy.ndarray, shape (G - 1,), int64
        Groups in the order of their removal; one group is never removed.
    losses : numpy.ndarray, shape (G - 1,), float64
        How much each removal raises the penalised squared error of the training rows, a sum over the rows.
    accuracies : numpy.ndarray, shape (G,), float64
        Accuracy of the validation rows after 0, 1, ..., G - 1 removals.
    """

    groups: NDArray[np.int64]
    order: NDArray[np.int64]
    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]

    def accuracy(self, count: int) -> float:
        """Return the accuracy of the validation rows with `count` groups left."""
        return float(self.accuracies[len(self.groups) - count])

    def left(self, count: int) -> NDArray[np.int64]:
        """Return the groups that are left when `count` are left, ascending."""
        removed = self.order[: len(self.groups) - count]
        return np.setdiff1d(np.arange(len(self.groups)), removed)

    def features(self, count: int) -> NDArray[np.int64]:
        """Return the features of the groups that are left when `count` are left, ascending."""
        return np.sort(self.groups[self.left(count)], axis=None)

    def smallest(self, within: float) -> int:
        """Return the least number of groups whose accuracy is at most `within` below that of all groups."""
        enough = np.flatnonzero(self.accuracies >= self.accuracies[0] - within)
        return len(self.groups) - int(enough[-1])


def size_curve(
    comm: Communicator,
    sums: GramSums,
    penalty: float,
    validation: ValidationRows | DeviceValidationRows,
    groups: NDArray[np.int64] | None = None,
) -> SizeCurve:
    """Eliminate all groups but one, and return the validation accuracy at every size. Collective.

    Rank 0 eliminates. Every rank updates the scores of its validation rows by the columns and factors that follow from
    it, which takes one product for many removals.

    Parameters
    ----------
    comm : Communicator
    sums : GramSums
        Of the training rows of all ranks.
    penalty : float
        Per row.
    validation : ValidationRows or DeviceValidationRows
        Of this rank.
    groups : numpy.ndarray, shape (G, g), int64, optional
        Features of each group. By default each feature is a group.

    Raises
    ------
    CandidateError
        As `Elimination`.
    """
    elimination: Elimination | None = None

    def begin() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        nonlocal elimination
        elimination = Elimination(sums, penalty, groups)
        return elimination.groups, elimination.weights

    of_groups, weights = run_on_root(comm, begin)
    blocks = iter(()) if elimination is None else elimination.blocks()
    scores = validation.scores_without(weights)
    correct = [scores.correct()]
    order: list[int] = []
    losses: list[float] = []
    while (block := run_on_root(comm, lambda: next(blocks, None))) is not None:
        signals.raise_if_stopped(DOING)
        order += block.groups
        losses += block.losses
        correct += scores.without(block)
    counts = comm.allreduce(np.array([*correct, validation.count], dtype=np.float64))
    return SizeCurve(of_groups, np.array(order, dtype=np.int64), np.array(losses), counts[:-1] / max(1.0, counts[-1]))


class _Scores:
    """The scores of validation rows while features are removed."""

    def __init__(self, validation: ValidationRows, weights: NDArray[np.float64]) -> None:
        self.labels = validation.labels
        self.rows = validation.rows
        self.features = np.arange(len(weights))
        self.scores = validation.scores(weights)

    def correct(self) -> int:
        """Return the number of rows whose label has the largest score."""
        return int(np.count_nonzero(self.scores.argmax(1) == self.labels))

    def without(self, block: Block) -> list[int]:
        """Remove the groups of a block, and return the number of correct rows after each removal."""
        size = block.columns.shape[1] // len(block.groups)
        products = self._products(block)
        factors = block.factors.astype(np.float32)
        correct = []
        for number in range(len(block.groups)):
            of_group = slice(number * size, (number + 1) * size)
            self.scores -= products[:, of_group] @ factors[of_group]
            correct.append(self.correct())
        return correct

    def _products(self, block: Block) -> NDArray[np.float32]:
        """Return the products of the rows with the columns of a block.

        Removed features are left out of the rows when half of the features are left: copying the rows for each block
        would take longer than the product.
        """
        if 2 * len(block.features) <= len(self.features):
            self.rows = self.rows[:, np.searchsorted(self.features, block.features)]
            self.features = block.features
        columns = np.zeros((len(self.features), block.columns.shape[1]), np.float32)
        columns[np.searchsorted(self.features, block.features)] = block.columns
        products: NDArray[np.float32] = self.rows @ columns
        return products


@dataclass(frozen=True)
class SelectedPenalty:
    """The penalty that the validation rows select.

    Attributes
    ----------
    penalty : float
        Per row.
    accuracy : float
        Accuracy of the validation rows with the readout that is fitted to the training rows.
    """

    penalty: float
    accuracy: float


def select_penalty(
    comm: Communicator,
    sums: GramSums,
    validation: ValidationRows | DeviceValidationRows,
    features: NDArray[np.int64],
    penalties: Iterable[float],
    by: Criterion | None = None,
) -> SelectedPenalty:
    """Return the penalty with the least validation error, or the best criterion, for a readout of some features.

    Collective.

    Parameters
    ----------
    comm : Communicator
    sums : GramSums
        Of the training rows.
    validation : ValidationRows or DeviceValidationRows
        Of this rank.
    features : numpy.ndarray, shape (f,), int64
        Ascending.
    penalties : iterable of float
    by : Criterion, optional
        What `rcdp_hpc.training.solve.penalty_choice.penalty_criterion` returns.

    Raises
    ------
    CandidateError
        If no penalty has a solution.
    """
    part = sums_of_features(sums, features)
    accuracies: dict[float, float] = {}
    worths: dict[float, float] = {}

    def error_of(penalty: float) -> float:
        answers = None if by is None else HeldOutAnswers(by)
        *scaling, weight, rows, correct = comm.allreduce(
            agree(comm, lambda: validation.error_sums(solve(part, penalty), features, answers))
        ).tolist()
        accuracies[penalty] = correct / max(1.0, rows)
        if answers is not None:
            worths[penalty] = answers.fitness(comm)
        return scaled_error(*scaling) / max(1.0, weight * part.y.size)

    if by is None:
        penalty, _ = best_by(error_of, penalties)
    else:
        penalty, _ = best_of_all(error_of, worths.__getitem__, penalties)
    return SelectedPenalty(penalty, accuracies[penalty])
