"""The evaluation of a candidate by cross-validation within the fitness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.model.criteria import Criterion
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.search.evaluation.candidate import Measured
from rcdp_hpc.search.evaluation.measured import evaluated, evaluated_fold, over_folds
from rcdp_hpc.search.evaluation.one_pass import fold_scores, left_out_fold_scores
from rcdp_hpc.search.evaluation.rank_group import on_leading_rank, run_undivided
from rcdp_hpc.search.evaluation.ridge import evaluate_fold, penalty_of_folds, uses_left_out
from rcdp_hpc.search.evaluation.rows import FitnessData, Part

States = torch.Tensor | None
T = TypeVar("T")


@dataclass(frozen=True)
class FoldEvaluator:
    """Evaluates the states of a candidate on the held-out rows of all folds.

    Attributes
    ----------
    settings : Config
        Configuration with the candidate's values.
    width : int
        Features of a row.
    gather : callable
        Returns the states of samples, shape (rows, width), from samples, lengths and whether there is noise: on the
        leading rank of the group, None on others. Collective.
    group : Communicator
        The ranks that evaluate the candidate together.
    train : callable
        Returns the outputs of a trained readout that approximate one-hot, shape (rows, classes), for the held-out rows
        of a fold, from the states of its training and held-out rows, and the fold.
    check : callable
        Raises a `CandidateError` if the time is up.
    criterion : Criterion or None
        What `rcdp_hpc.search.evaluation.measured.fitness_criterion` returns.
    """

    settings: Config
    width: int
    gather: Callable[[NDArray[Any], NDArray[np.int64] | None, bool], States]
    group: Communicator
    train: Callable[[States, States, FitnessData], NDArray[np.float64]]
    check: Callable[[], None]
    criterion: Criterion | None = None

    def result(self, data: FitnessData) -> Measured:
        """Return what is measured on all held-out rows."""
        return self._separate_folds(data) if data.folds else self._one_pass(data)

    def _one_pass(self, data: FitnessData) -> Measured:
        originals, settings = data.originals, self.settings
        if uses_left_out(settings, len(originals.y), self.width):
            states = self.gather(originals.x, originals.lengths, True)
            return self._on_leader(
                lambda: evaluated(
                    left_out_fold_scores(settings, on_leading_rank(states), data), originals.y, self.criterion
                )
            )
        all_states = self.gather(*data.samples("train"), True)
        noiseless = self.gather(originals.x, originals.lengths, False) if settings.reservoir.noise else None

        def work() -> Measured:
            self.check()
            states = on_leading_rank(all_states)
            held_out = original_states(states, data) if noiseless is None else noiseless
            return evaluated(fold_scores(settings, states, held_out, data), originals.y, self.criterion)

        return self._on_leader(work)

    def _separate_folds(self, data: FitnessData) -> Measured:
        """Evaluate folds that are balanced separately; the states of original rows are computed once for all folds."""
        originals, settings = data.originals, self.settings
        original_states = self.gather(originals.x, originals.lengths, True)
        noiseless = original_states
        if settings.reservoir.noise:
            noiseless = self.gather(originals.x, originals.lengths, False)
        penalty: float | None = None
        if settings.search.evaluation == "ridge":
            penalty = self._on_leader(lambda: penalty_of_folds(settings, on_leading_rank(original_states), data))
        results = []
        for fold in data.folds:
            train_states = self._states_of_fold(fold, "train", original_states)
            val_states = self._states_of_fold(fold, "val", noiseless)
            results.append(self._on_leader(partial(self._on_fold, penalty, train_states, val_states, fold)))
        return over_folds(results, data.folds, self.criterion)

    def _on_fold(self, penalty: float | None, train_states: States, val_states: States, fold: FitnessData) -> Measured:
        self.check()
        if self.settings.search.evaluation == "train":
            return evaluated_fold(self.train(train_states, val_states, fold), fold.y_val, self.criterion)
        states = on_leading_rank(train_states), on_leading_rank(val_states)
        return evaluate_fold(self.settings, penalty, *states, fold, self.criterion)

    def _states_of_fold(self, fold: FitnessData, part: Part, originals: States) -> States:
        """Return the states of a part of a fold, on the leading rank; `originals` are those of the original rows."""
        origins = fold.origin_train if part == "train" else fold.origin_val
        x, lengths = fold.samples(part)
        if origins is None:
            return self.gather(x, lengths, part == "train")
        is_synthetic = origins < 0
        synthetic = None
        if is_synthetic.any():
            steps = None if lengths is None else lengths[is_synthetic]
            synthetic = self.gather(x[is_synthetic], steps, True)
        return assembled_states(origins, originals, synthetic) if originals is not None else None

    def _on_leader(self, work: Callable[[], T]) -> T:
        return run_undivided(self.group, work)


def original_states(states: torch.Tensor, data: FitnessData) -> torch.Tensor:
    """Return the states of ``data.originals`` among those of all training rows."""
    if data.synthetic is None or not data.synthetic.any():
        return states
    return states[torch.from_numpy(~data.synthetic).to(states.device)]


def assembled_states(
    origins: NDArray[np.int64], originals: torch.Tensor, synthetic: torch.Tensor | None
) -> torch.Tensor:
    """Return the states of a part of a fold, shape (rows, width).

    Parameters
    ----------
    origins : ndarray, shape (rows,), int64
        Index of each row among the original rows; -1 for a synthetic row.
    originals : torch.Tensor, shape (original rows, width)
        States of all original rows.
    synthetic : torch.Tensor, shape (synthetic rows, width), or None
        States of the synthetic rows, in order; None if there are none.
    """
    device = originals.device
    states = torch.empty((len(origins), originals.shape[1]), dtype=originals.dtype, device=device)
    is_original = torch.from_numpy(origins >= 0).to(device)
    states[is_original] = originals[torch.from_numpy(origins[origins >= 0]).to(device)]
    if synthetic is not None:
        states[~is_original] = synthetic
    return states
