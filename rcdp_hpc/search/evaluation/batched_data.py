"""The rows of a fitness on the device of a batch: sequences, targets and weights, copied there once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import Config
from rcdp_hpc.reservoir.fold_residuals import rows_of_folds
from rcdp_hpc.reservoir.ridge import one_hot
from rcdp_hpc.reservoir.stacked import sequences
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.search.evaluation.one_pass import original_places, parents, pass_weights
from rcdp_hpc.search.evaluation.ridge import row_weights
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.training.solve.ridge_fit import replacement_weights, weights_of


class DeviceRows:
    """Tensors of the rows of a fitness. Every tensor is made at its first use and kept.

    Parameters
    ----------
    config : Config
    like : Reservoir
        A reservoir of any candidate.
    data : FitnessData
    """

    def __init__(self, config: Config, like: Reservoir, data: FitnessData) -> None:
        self.config = config
        self.like = like
        self.data = data
        self.folds = [DeviceRows(config, like, fold) for fold in data.folds]
        self._kept: dict[str, Tensor | None] = {}

    def sequences(self, name: str, x: NDArray[Any]) -> Tensor:
        """Return the sequences of samples; a name stands for one array."""
        # The shared rows are read-only, which torch does not support.
        return self._needed(name, lambda: sequences(self.like, x.copy()))

    def targets(self, name: str, labels: NDArray[np.int64]) -> Tensor:
        """Return labels as one-hot targets, shape (rows, classes), float64; a name stands for one array."""
        return self._needed(f"targets of {name}", lambda: self._moved(one_hot(labels, self.data.classes)))

    def weights(self, name: str, labels: NDArray[np.int64]) -> Tensor | None:
        """Return the weights of rows in the fit, shape (rows,), float64; None if all are equal."""
        return self._optional(f"weights of {name}", lambda: weights_of(labels, row_weights(self.config, self.data)))

    def stand_in_weights(self, labels: NDArray[np.int64], fitted: NDArray[np.int64]) -> Tensor | None:
        """Return weights with which original rows stand in for the rows that are fitted (`replacement_weights`)."""

        def made() -> NDArray[np.float64] | None:
            return replacement_weights(labels, fitted, self.data.classes, row_weights(self.config, self.data))

        return self._optional("weights that stand in", made)

    def places(self, name: str, origins: NDArray[np.int64], synthetic: int) -> Tensor:
        """Return where the rows of a fold are in [original rows, synthetic rows], shape (rows,), int64.

        Parameters
        ----------
        name : str
            Stands for one array.
        origins : numpy.ndarray, shape (rows,), int64
            Index of each row among the original rows; -1 for a synthetic row.
        synthetic : int
            Place of the first synthetic row.
        """

        def made() -> NDArray[np.int64]:
            rows = origins.copy()
            rows[origins < 0] = synthetic + np.arange(int((origins < 0).sum()))
            return rows

        return self._needed(f"places of {name}", lambda: torch.from_numpy(made()).to(self.like.device))

    @cached_property
    def fold_places(self) -> list[Tensor]:
        """Indices of the original rows of each fold, of rows whose folds are evaluated from one pass."""
        return list(rows_of_folds(self.data.original_folds, self.like.device))

    @cached_property
    def original_places(self) -> Tensor:
        """Indices of the original rows among the training rows."""
        return torch.from_numpy(original_places(self.data)).to(self.like.device)

    @cached_property
    def pairs(self) -> list[tuple[set[int], Tensor]]:
        """The folds of the original rows that training rows derive from, each pair with the indices of its rows."""
        folds, which = np.unique(np.sort(parents(self.data), axis=1), axis=0, return_inverse=True)
        which = which.reshape(-1)
        return [
            (set(pair), torch.from_numpy(np.flatnonzero(which == number)).to(self.like.device))
            for number, pair in enumerate(folds.tolist())
        ]

    def pass_weights(self) -> Tensor | None:
        """Return `rcdp_hpc.search.evaluation.one_pass.pass_weights` on the device."""
        return self._optional("weights of a pass", lambda: pass_weights(self.config, self.data))

    def _moved(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.float64)).to(self.like.device)

    def _needed(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        found = self._kept.get(name)
        if found is None:
            found = self._kept[name] = make()
        return found

    def _optional(self, name: str, make: Callable[[], NDArray[Any] | None]) -> Tensor | None:
        if name not in self._kept:
            made = make()
            self._kept[name] = None if made is None else self._moved(made)
        return self._kept[name]
