"""One candidate from its values to its fitness: build the reservoir, fit a readout, judge it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config, TrainingSection
from rcdp_hpc.reservoir.reductions import check_length
from rcdp_hpc.reservoir.ridge import GramSums, one_hot, solve
from rcdp_hpc.reservoir.sequence import as_sequences, sequence_shape
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.search.candidate import Evaluation, judge
from rcdp_hpc.search.data import FitnessData
from rcdp_hpc.search.space import Values, with_values


class ReservoirFitness:
    """The fitness of a candidate (eq. 5, or the accuracy), a function of its values and the configuration alone.

    E is the mean over validation rows and classes of the squared difference between the readout's scores and
    one-hot targets; with ``search.evaluation = "train"`` the scores are the class probabilities.

    Thread counts decide the last digits: call it within `rcdp_hpc.runtime.threads.limit_threads`.

    Parameters
    ----------
    config : Config
        ``reservoir.kernel`` must be chosen already, not "auto".
    data : FitnessData
        The rows that candidates are fitted to and judged by.

    Raises
    ------
    InputError
        If the samples cannot drive the reservoir, or have fewer steps than states are to be kept.
    """

    def __init__(self, config: Config, data: FitnessData) -> None:
        self.config, self.data = config, data
        steps, self.features = sequence_shape(data.x_train.shape[1:], config.reservoir.sequence)
        check_length(config.reservoir, steps)

    def __call__(self, values: Values) -> Evaluation:
        """Evaluate the candidate with these values."""
        density = float(values.get("density", self.config.reservoir.density))
        return judge(self.measure, values, self.config.search, density)

    def measure(self, values: Values) -> tuple[float, float]:
        """Return the validation error E and the accuracy of the candidate with these values.

        Raises
        ------
        CandidateError
            If its reservoir cannot be built or its readout cannot be fitted.
        """
        chosen = with_values(self.config, values)
        reservoir = Reservoir(chosen.reservoir, self.features, chosen.reservoir.kernel)
        if chosen.search.evaluation == "ridge":
            return self._by_ridge(reservoir)
        return self._by_training(reservoir, chosen.training)

    def _by_ridge(self, reservoir: Reservoir) -> tuple[float, float]:
        data = self.data
        sums = GramSums(reservoir.width, data.classes)
        for rows, states in _states(reservoir, data.x_train, noisy=True):
            sums.add(states, one_hot(data.y_train[rows], data.classes))
        readout = solve(sums, self.config.search.ridge_penalty)
        scores = np.concatenate([readout.predict(states) for _, states in _states(reservoir, data.x_val)])
        return judge_scores(scores, data.y_val)

    def _by_training(self, reservoir: Reservoir, training: TrainingSection) -> tuple[float, float]:
        from rcdp_hpc.training.readout import fit_readout

        data = self.data
        probabilities = fit_readout(
            _all_states(reservoir, data.x_train, noisy=True),
            torch.tensor(data.y_train, dtype=torch.int64),
            _all_states(reservoir, data.x_val),
            training=training,
            classes=data.classes,
            epochs=self.config.search.epochs,
            seed=self.config.run.seed,
        )
        return judge_scores(probabilities, data.y_val)


def judge_scores(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> tuple[float, float]:
    """Return the mean squared error against one-hot targets, and the accuracy.

    Parameters
    ----------
    scores : ndarray, shape (rows, classes)
    labels : ndarray, shape (rows,)
        Class numbers.
    """
    difference = scores.astype(np.float64) - one_hot(labels, scores.shape[1])
    return float(np.mean(np.square(difference))), float(np.mean(scores.argmax(axis=1) == labels))


def _states(reservoir: Reservoir, x: NDArray[Any], noisy: bool = False) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield rows and their states, in fixed blocks."""
    section = reservoir.settings
    for start in range(0, len(x), reservoir.batch_rows):
        rows = slice(start, min(start + reservoir.batch_rows, len(x)))
        block = x[rows].copy()  # the shared rows are read-only, which torch has no notion of
        yield rows, reservoir.states(as_sequences(block, section.sequence), noisy=noisy)


def _all_states(reservoir: Reservoir, x: NDArray[Any], noisy: bool = False) -> torch.Tensor:
    """Return the states of all rows, shape (rows, kept * nodes)."""
    found = torch.empty((len(x), reservoir.width), dtype=reservoir.dtype)
    for rows, states in _states(reservoir, x, noisy):
        found[rows] = states
    return found
