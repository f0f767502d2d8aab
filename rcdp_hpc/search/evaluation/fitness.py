"""One candidate from its values to its fitness: build the reservoir, fit a readout, judge it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.kept_steps import check_length, input_features
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.search.evaluation.candidate import Evaluation, judge
from rcdp_hpc.search.evaluation.limits import Clock, estimated_bytes, refuse_too_large, time_limit
from rcdp_hpc.search.evaluation.matrix_cache import MatrixCache
from rcdp_hpc.search.evaluation.rank_group import add_in_turn, by_leader, row_blocks, slab, stack_rows, together
from rcdp_hpc.search.evaluation.ridge import (
    Judged,
    add_rows,
    judge_fold,
    judge_left_out,
    judge_on_validation,
    judge_scores,
    judged_by_left_out,
    penalty_of_folds,
    row_weights,
)
from rcdp_hpc.search.evaluation.rows import FitnessData, Part
from rcdp_hpc.search.space import Values, with_values

# A float64 rank-k update costs several times a float32 product of as many operations.
DOUBLE_COST = 4.0
PARTS: tuple[Part, Part] = ("train", "val")
T = TypeVar("T")


class ReservoirFitness:
    """The fitness of a candidate (eq. 5, or the accuracy), a function of its values and the configuration alone.

    E is the mean over rows and classes of the squared difference between the readout's scores and one-hot targets. With
    few rows these are all original rows, each scored by the readout that is fitted without it; otherwise the validation
    rows. With folds they are all rows that the folds hold out. With ``search.evaluation = "train"`` the scores are the
    class probabilities, on validation rows. The ridge penalty is chosen for each candidate before E is taken.

    Thread counts decide the last digits: call it within `rcdp_hpc.runtime.threads.limit_threads`. The ranks of
    a group call it together, and get the bits that one rank would.

    Parameters
    ----------
    config : Config
        ``reservoir.kernel`` must be chosen already, not "auto".
    data : FitnessData
        The rows that candidates are fitted to and judged by.
    memory : int, optional
        Bytes that a candidate may need by estimate; default: any number.

    Raises
    ------
    InputError
        If the samples cannot be cut as the reservoir reads them, one has fewer steps than states are to be kept, or
        ``search.device`` is "gpu" and there is none.
    """

    def __init__(self, config: Config, data: FitnessData, memory: int = sys.maxsize) -> None:
        self.config, self.data, self.memory = config, data, memory
        self.device = _device(config)
        self._due = data  # the part of the rows that the next candidates are judged by
        self.group: Communicator = SingleProcess()
        self.cache = MatrixCache()
        self.steps = self._shape(config)[0]
        self._check_lengths()
        self._divided = self._spent = 0.0

    def in_group(self, group: Communicator) -> ReservoirFitness:
        """Evaluate the next candidates together with the ranks of `group`; return this object."""
        self.group = group
        return self

    def on_share(self, share: float) -> ReservoirFitness:
        """Judge the next candidates by the first rows, this share of all; return this object."""
        self._due = self.data.first(share) if share < 1 else self.data
        return self

    @property
    def parallel_share(self) -> float:
        """The share of a candidate's time that a group divides, as measured so far."""
        return self._divided / self._spent if self._spent else 0.8

    def __call__(self, values: Values) -> Evaluation:
        """Evaluate the candidate with these values."""
        return judge(self.measure, values, self.config.search, self.density(values))

    def density(self, values: Values) -> float:
        """Return the connection density of the candidate with these values."""
        return float(values.get("density", self.config.reservoir.density))

    @property
    def due(self) -> FitnessData:
        """The rows that the next candidates are judged by."""
        return self._due

    def measure(self, values: Values) -> Judged:
        """Return the validation error E and the accuracy of the candidate with these values.

        Raises
        ------
        CandidateError
            If its reservoir cannot be built, its readout cannot be fitted, or its time is up.
        """
        chosen, started = with_values(self.config, values), time.perf_counter()
        divided = self._divided
        with time_limit(chosen.search.candidate_seconds, alarm=self.group.size == 1) as clock:
            reservoir = together(self.group, lambda: self.reservoir(chosen))
            judged = self._judged(chosen, reservoir, clock)
        # What a group divided would have taken one rank as much longer.
        self._spent += time.perf_counter() - started + (self._divided - divided) * (1 - 1 / self.group.size)
        return judged

    def _shape(self, config: Config) -> tuple[int, int]:
        return Sequencer.of(config.reservoir).shape(self.data.x_train.shape[1:])

    def _check_lengths(self) -> None:
        """Refuse samples too short for what is kept of them, before any candidate is evaluated."""
        settings = self.config.reservoir
        lengths = [found for _, found in map(self.data.samples, PARTS) if found is not None]
        shortest = [int(Sequencer.of(settings).lengths(found).min()) for found in lengths]
        check_length(settings, min(shortest, default=self.steps))

    def reservoir(self, chosen: Config) -> Reservoir:
        """Build a candidate's reservoir.

        Parameters
        ----------
        chosen : Config
            With the candidate's values.

        Raises
        ------
        CandidateError
            If it cannot be built, or the candidate needs too much memory.
        """
        refuse_too_large(self._needed(chosen), self.memory)
        features = self._shape(chosen)[1]
        inputs = input_features(chosen.reservoir, features)
        matrices = self.cache.matrices(chosen.reservoir, inputs) if chosen.reservoir.is_plain else None
        return Reservoir(chosen.reservoir, features, chosen.reservoir.kernel, self.device, matrices, self.steps)

    def _needed(self, chosen: Config) -> int:
        rows = len(self.data.x_train) + len(self.data.x_val)
        return estimated_bytes(chosen, self._shape(chosen), rows, self.data.classes)

    def _judged(self, chosen: Config, reservoir: Reservoir, clock: Clock) -> Judged:
        data = self._due
        if data.folds:
            return self._by_folds(chosen, reservoir, data, clock)
        if chosen.search.evaluation == "train":
            fitted = self._gathered(reservoir, *data.samples("train"), True, clock)
            held_out = self._gathered(reservoir, *data.samples("val"), False, clock)
            return self._lead(lambda: self._by_training(chosen, reservoir, fitted, held_out, data, clock))
        judging = len(data.originals.y) + len(data.y_val)
        if judged_by_left_out(chosen, judging, reservoir.width):
            rows = data.judging
            states = self._gathered(reservoir, rows.x, rows.lengths, True, clock)
            return self._lead(lambda: judge_left_out(chosen, _there(states), data))
        return self._by_validation(chosen, reservoir, data, clock)

    def _by_folds(self, chosen: Config, reservoir: Reservoir, data: FitnessData, clock: Clock) -> Judged:
        """Judge by each fold's held-out rows; the states of original rows are computed once for all folds."""
        originals = data.originals
        noisy = self._gathered(reservoir, originals.x, originals.lengths, True, clock)
        clean = noisy
        if chosen.reservoir.noise:
            clean = self._gathered(reservoir, originals.x, originals.lengths, False, clock)
        penalty: float | None = None
        if chosen.search.evaluation == "ridge":
            penalty = self._lead(lambda: penalty_of_folds(chosen, _there(noisy), data))
        judged = []
        for fold in data.folds:
            fitted = self._of_fold(reservoir, fold, "train", noisy, clock)
            held_out = self._of_fold(reservoir, fold, "val", clean, clock)
            work = partial(self._of_one_fold, chosen, reservoir, penalty, fitted, held_out, fold, clock)
            judged.append(self._lead(work))
        return over_parts(judged, data.folds)

    def _of_one_fold(
        self,
        chosen: Config,
        reservoir: Reservoir,
        penalty: float | None,
        fitted: torch.Tensor | None,
        held_out: torch.Tensor | None,
        fold: FitnessData,
        clock: Clock,
    ) -> Judged:
        clock.check()
        if chosen.search.evaluation == "train":
            return self._by_training(chosen, reservoir, fitted, held_out, fold, clock)
        return judge_fold(chosen, penalty, _there(fitted), _there(held_out), fold)

    def _of_fold(
        self, reservoir: Reservoir, fold: FitnessData, part: Part, known: torch.Tensor | None, clock: Clock
    ) -> torch.Tensor | None:
        """Return the states of a part of a fold on the rank that leads, from those of the original rows."""
        origins = fold.origin_train if part == "train" else fold.origin_val
        x, lengths = fold.samples(part)
        if origins is None:
            return self._gathered(reservoir, x, lengths, part == "train", clock)
        made = origins < 0
        own = None
        if made.any():
            own = self._gathered(reservoir, x[made], None if lengths is None else lengths[made], True, clock)
        return assembled(origins, known, own) if known is not None else None

    def _lead(self, work: Callable[[], T]) -> T:
        """Do what one rank of the group does alone, which divides none of its time."""
        return by_leader(self.group, work) if self.group.size > 1 else work()

    def _by_validation(self, chosen: Config, reservoir: Reservoir, data: FitnessData, clock: Clock) -> Judged:
        if self.group.size == 1:
            return self._on_validation(chosen, reservoir, data, clock)
        slabs = self._slabs(reservoir, len(data.x_train))
        longest = max(sum(rows.stop - rows.start for rows in blocks) for blocks in slabs)
        if self._needed(chosen) + longest * reservoir.width * reservoir.dtype.itemsize > self.memory:
            divided = self._divided
            judged = by_leader(self.group, lambda: self._on_validation(chosen, reservoir, data, clock))
            self._divided = divided  # the group divided nothing
            return judged
        return self._on_validation_in_group(chosen, reservoir, data, clock, slabs)

    def _on_validation(self, chosen: Config, reservoir: Reservoir, data: FitnessData, clock: Clock) -> Judged:
        weights, sums = row_weights(chosen, data), GramSums(reservoir.width, data.classes)
        for rows, states in self._states(reservoir, *data.samples("train"), True, clock):
            add_rows(sums, states, data.y_train[rows], data.classes, weights)
        found = [states for _, states in self._states(reservoir, *data.samples("val"), False, clock)]
        return judge_on_validation(chosen, sums, torch.cat(found), data)

    def _slabs(self, reservoir: Reservoir, count: int) -> list[list[slice]]:
        """Return the blocks of training rows that each rank of the group has, rank 0, which solves, the last ones."""
        size = self.group.size
        blocks = row_blocks(count, reservoir.batch_rows)
        # Each slab is longer than the one before by what adding that one takes, so that no rank waits for the sums.
        growth = 1 + DOUBLE_COST * reservoir.width**2 / (2 * self.steps * reservoir.nodes**2)
        return [slab(blocks, size - 1 - rank, size, growth) for rank in range(size)]

    def _on_validation_in_group(
        self, chosen: Config, reservoir: Reservoir, data: FitnessData, clock: Clock, slabs: list[list[slice]]
    ) -> Judged:
        """As `_on_validation`: every rank holds the states of its rows, and the sums travel from rank to rank."""
        group, mine = self.group, slabs[self.group.rank]
        weights = row_weights(chosen, data)
        sums, found = together(
            group,
            lambda: (
                GramSums(reservoir.width, data.classes),
                list(self._states(reservoir, *data.samples("train"), True, clock, mine)),
            ),
        )

        def add(sums: GramSums) -> None:
            for rows, states in found:
                add_rows(sums, states, data.y_train[rows], data.classes, weights)

        add_in_turn(group, sums, add)
        found.clear()
        states = self._gathered(reservoir, *data.samples("val"), False, clock)
        return by_leader(group, lambda: judge_on_validation(chosen, sums, _there(states), data))

    def _by_training(
        self,
        chosen: Config,
        reservoir: Reservoir,
        fitted: torch.Tensor | None,
        held_out: torch.Tensor | None,
        data: FitnessData,
        clock: Clock,
    ) -> Judged:
        from rcdp_hpc.training.solve.short_training import fit_readout

        probabilities = fit_readout(
            _there(fitted),
            reservoir.feature_shape,
            torch.tensor(data.y_train, dtype=torch.int64),
            _there(held_out),
            config=chosen,
            classes=data.classes,
            epochs=self.config.search.epochs,
            seed=self.config.run.seed,
            before_step=clock.check,
        )
        return judge_scores(probabilities, data.y_val)

    def _states(
        self,
        reservoir: Reservoir,
        x: NDArray[Any],
        lengths: NDArray[np.int64] | None,
        noisy: bool,
        clock: Clock,
        blocks: list[slice] | None = None,
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield rows and their states, in fixed blocks: all of them, or those given."""
        for rows in row_blocks(len(x), reservoir.batch_rows) if blocks is None else blocks:
            clock.check()
            with self._measured():
                block = x[rows].copy()  # the shared rows are read-only, which torch has no notion of
                own = None if lengths is None else lengths[rows].copy()
                states = reservoir.drive(block, own, noisy=noisy).cpu()
            yield rows, states

    def _gathered(
        self, reservoir: Reservoir, x: NDArray[Any], lengths: NDArray[np.int64] | None, noisy: bool, clock: Clock
    ) -> torch.Tensor | None:
        """Return the states of all rows, shape (rows, width), on the rank that leads the group."""
        if self.group.size == 1:
            found = torch.empty((len(x), reservoir.width), dtype=reservoir.dtype)
            for rows, states in self._states(reservoir, x, lengths, noisy, clock):
                found[rows] = states
            return found
        mine = slab(row_blocks(len(x), reservoir.batch_rows), self.group.rank, self.group.size)
        parts = together(
            self.group,
            lambda: [states.float().numpy() for _, states in self._states(reservoir, x, lengths, noisy, clock, mine)],
        )
        none = np.empty((0, reservoir.width), dtype=np.float32)
        stacked = stack_rows(self.group, np.concatenate([none, *parts]))
        return None if stacked is None else torch.from_numpy(stacked).to(reservoir.dtype)

    @contextmanager
    def _measured(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._divided += (time.perf_counter() - started) * self.group.size


def over_parts(judged: list[Judged], parts: tuple[FitnessData, ...]) -> Judged:
    """Return error and accuracy over all rows that folds hold out, from those of each."""
    rows = np.array([len(part.y_val) for part in parts], dtype=np.float64)
    error, accuracy = (rows / rows.sum()) @ np.array(judged)
    return float(error), float(accuracy)


def assembled(origins: NDArray[np.int64], known: torch.Tensor, made: torch.Tensor | None) -> torch.Tensor:
    """Return a fold's states: rows of those known, by their origin, and where that is -1 those made, in order."""
    found = torch.empty((len(origins), known.shape[1]), dtype=known.dtype)
    real = torch.from_numpy(origins >= 0)
    found[real] = known[torch.from_numpy(origins[origins >= 0])]
    if made is not None:
        found[~real] = made
    return found


def _device(config: Config) -> str:
    """Return the device that states are computed on, in torch's words."""
    if config.search.device == "cpu":
        return "cpu"
    from rcdp_hpc.runtime.device import device

    found = device()
    if found.type == "cpu":
        raise InputError(
            "search.device = 'gpu', and torch sees no GPU here: set search.device = 'cpu', or start on nodes with "
            "GPUs, with a torch that is built for them"
        )
    return str(found)


def _there(found: Any) -> Any:
    """Return what the leading rank has."""
    if found is None:
        raise AssertionError("only the leading rank has it")
    return found
