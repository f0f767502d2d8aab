"""The base class of what solves a readout without gradients, and the one that a configuration names."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import readout_choice
from rcdp_hpc.model.calibration.scores import HeldOutScores
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.training.solve.layer_file import LayerFile
from rcdp_hpc.training.solve.ridge_fit import RowSource


@dataclass(frozen=True)
class Solution:
    """A solved readout.

    Attributes
    ----------
    weights : dict of str to torch.Tensor
        State of the network that ``readout.kind`` names.
    scores : callable
        Returns z, which is solved to approximate one-hot classes, shape (rows, classes), of features (rows, features).
    accuracy : float
        Accuracy of left-out rows, or on the validation rows of the readout fitted to the training rows.
    judged_by : {"left-out", "validation"}
        The rows of the accuracy.
    selected_by : {"left-out", "validation"}
        The rows that the penalties were selected by.
    penalties : tuple of float
        Penalty per row of each ridge regression.
    held_out : HeldOutScores or None
        Scores of rows that the readout was not fitted to, on rank 0, if `RowSource.natural` asks for them.
    """

    weights: dict[str, torch.Tensor]
    scores: Callable[[torch.Tensor], torch.Tensor]
    accuracy: float
    judged_by: str
    selected_by: str
    penalties: tuple[float, ...]
    held_out: HeldOutScores | None = None


class Solver(ABC):
    """Solves the readout of a configuration from sums over rows.

    Attributes
    ----------
    method : str
        What solves it, for messages.
    """

    method: str

    @abstractmethod
    def passes(self, config: Config) -> int:
        """Return how often the states of the training rows are needed."""

    @abstractmethod
    def solve(
        self,
        config: Config,
        comm: Communicator,
        source: RowSource,
        shape: FeatureShape,
        seed: int,
        *,
        with_validation: bool = True,
        before_block: Callable[[], object] = lambda: None,
        file: LayerFile | None = None,
    ) -> Solution:
        """Solve the readout. Collective.

        Parameters
        ----------
        config : Config
            Sections ``readout`` and ``loss``, and what `rcdp_hpc.training.solve.ridge_fit.left_out_suits` reads.
        comm : Communicator
        source : RowSource
        shape : FeatureShape
            The order of a sample's features in its row.
        seed : int
            Determines random weights.
        with_validation : bool
            Whether the scores are finally fitted to the validation rows, too; False if they evaluate the readout later.
        before_block : callable
            Called before each block of rows; an error that it raises ends the solution.
        file : LayerFile, optional
            Where a solution in several steps is saved after each step, and resumed from.

        Returns
        -------
        Solution
            The same bits on every rank, and for any number of ranks.

        Raises
        ------
        CandidateError
            If the sums are not finite, or rounding errors exceed the penalties.
        """


def solver_of(config: Config) -> Solver:
    """Return the solver of ``readout.kind``, which must be a readout that is solved."""
    module, _, name = readout_choice(config.readout.kind).solver.partition(":")
    return cast(Solver, getattr(importlib.import_module(module), name)())
