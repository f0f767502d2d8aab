"""The solution of a readout in one process, with which the search evaluates a candidate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.reservoir.device_sums import sums_device
from rcdp_hpc.reservoir.gram import ROWS_AT_ONCE
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.solve.ridge_fit import GatheredRows, RowSource
from rcdp_hpc.training.solve.solver import solver_of


@dataclass(frozen=True)
class CandidateRows:
    """The states and class indices that a candidate is solved from and evaluated on.

    Attributes
    ----------
    features : torch.Tensor, shape (rows, width)
    labels : torch.Tensor, shape (rows,), int64
    validation_features : torch.Tensor, shape (validation rows, width)
    validation_labels : torch.Tensor, shape (validation rows,), int64
    classes : int
    names : tuple of str
        Names of the classes; empty if they are not known.
    """

    features: torch.Tensor
    labels: torch.Tensor
    validation_features: torch.Tensor
    validation_labels: torch.Tensor
    classes: int
    names: tuple[str, ...] = ()

    def source(self) -> RowSource:
        """Return the rows as blocks of one partition."""
        counts = np.bincount(self.labels.cpu().numpy(), minlength=self.classes)
        return RowSource(
            self.features.shape[1], self.classes, len(self.labels), len(self.validation_labels), counts,
            lambda: [_blocks(self.features, self.labels)],
            lambda: [_blocks(self.validation_features, self.validation_labels)], _not_gathered,
            level=logging.DEBUG, device=sums_device(self.features.device),
            names=self.names,
        )  # fmt: skip


def solved_scores(
    config: Config, rows: CandidateRows, shape: FeatureShape, seed: int, before_block: Callable[[], object]
) -> NDArray[np.float64]:
    """Solve a readout from the training rows and return its scores, which approximate one-hot classes.

    The validation rows choose the ridge penalty.

    Parameters
    ----------
    config : Config
        Sections ``readout`` and ``loss``.
    rows : CandidateRows
    shape : FeatureShape
        Layout of the states of a sample in its row.
    seed : int
        Determines random weights.
    before_block : callable
        Called before each block of rows; an error that it raises ends the solution.

    Returns
    -------
    ndarray, shape (validation rows, classes), float64

    Raises
    ------
    CandidateError
        If the readout cannot be solved.
    """
    readout = config.readout.model_copy(update={"ridge_selection": "validation", "members": 1})
    solution = solver_of(config).solve(
        config.model_copy(update={"readout": readout}), SingleProcess(), rows.source(), shape, seed,
        with_validation=False, before_block=before_block,
    )  # fmt: skip
    with torch.no_grad():
        scores = torch.cat([solution.scores(states.float()) for states in rows.validation_features.split(ROWS_AT_ONCE)])
    return np.asarray(scores.double().cpu().numpy())


def _blocks(features: torch.Tensor, labels: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(features.split(ROWS_AT_ONCE), labels.split(ROWS_AT_ONCE), strict=True)


def _not_gathered() -> GatheredRows | None:
    raise AssertionError("the validation rows choose the penalty")
