"""One candidate from its values to its fitness: build the reservoir, fit a readout, judge it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config, TrainingSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.cutting import Cut
from rcdp_hpc.reservoir.kept_steps import check_length
from rcdp_hpc.reservoir.ridge import GramSums, one_hot, solve
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.comm import Communicator, SingleProcess
from rcdp_hpc.search.candidate import Evaluation, judge
from rcdp_hpc.search.data import FitnessData, Part
from rcdp_hpc.search.group import add_in_turn, by_leader, row_blocks, slab, stack_rows, together
from rcdp_hpc.search.limits import Clock, estimated_bytes, refuse_too_large, time_limit
from rcdp_hpc.search.matrices import MatrixCache, is_plain
from rcdp_hpc.search.space import Values, with_values

# A float64 rank-k update costs several times a float32 product of as many operations.
DOUBLE_COST = 4.0
PARTS: tuple[Part, Part] = ("train", "val")
Judged = tuple[float, float]
Keep = Callable[[slice, torch.Tensor], None]


class ReservoirFitness:
    """The fitness of a candidate (eq. 5, or the accuracy), a function of its values and the configuration alone.

    E is the mean over validation rows and classes of the squared difference between the readout's scores and
    one-hot targets; with ``search.evaluation = "train"`` the scores are the class probabilities. With folds, E
    and the accuracy are means over all rows that the folds hold out.

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
    def parts(self) -> tuple[FitnessData, ...]:
        """What the next candidates are judged by: the folds, or the rows that are due."""
        return self._due.folds or (self._due,)

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
            judged = [self._judged(chosen, reservoir, part, clock) for part in self.parts]
        # What a group divided would have taken one rank as much longer.
        self._spent += time.perf_counter() - started + (self._divided - divided) * (1 - 1 / self.group.size)
        return over_parts(judged, self.parts)

    def _shape(self, config: Config) -> tuple[int, int]:
        return Cut.of(config.reservoir).shape(self.data.x_train.shape[1:])

    def _check_lengths(self) -> None:
        """Refuse samples too short for what is kept of them, before any candidate is evaluated."""
        settings = self.config.reservoir
        lengths = [found for _, found in map(self.data.samples, PARTS) if found is not None]
        shortest = [int(Cut.of(settings).lengths(found).min()) for found in lengths]
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
        matrices = self.cache.matrices(chosen.reservoir, features) if is_plain(chosen.reservoir) else None
        return Reservoir(chosen.reservoir, features, chosen.reservoir.kernel, self.device, matrices, self.steps)

    def _needed(self, chosen: Config) -> int:
        rows = len(self.data.x_train) + len(self.data.x_val)
        return estimated_bytes(chosen, self._shape(chosen), rows, self.data.classes)

    def _judged(self, chosen: Config, reservoir: Reservoir, data: FitnessData, clock: Clock) -> Judged:
        if chosen.search.evaluation == "train":
            return self._by_training(reservoir, data, chosen.training, clock)
        if self.group.size == 1:
            return self._by_ridge(reservoir, data, clock)
        slabs = self._slabs(reservoir, len(data.x_train))
        longest = max(sum(rows.stop - rows.start for rows in blocks) for blocks in slabs)
        if self._needed(chosen) + longest * reservoir.width * reservoir.dtype.itemsize > self.memory:
            divided = self._divided
            judged = by_leader(self.group, lambda: self._by_ridge(reservoir, data, clock))
            self._divided = divided  # the group divided nothing
            return judged
        return self._by_ridge_in_group(reservoir, data, clock, slabs)

    def _by_ridge(self, reservoir: Reservoir, data: FitnessData, clock: Clock) -> Judged:
        sums = GramSums(reservoir.width, data.classes)
        for rows, states in self._states(reservoir, data, "train", clock):
            sums.add(states, one_hot(data.y_train[rows], data.classes))
        readout = solve(sums, self.config.search.ridge_penalty)
        judged = self._states(reservoir, data, "val", clock)
        scores = np.concatenate([readout.predict(states) for _, states in judged])
        return judge_scores(scores, data.y_val)

    def _slabs(self, reservoir: Reservoir, count: int) -> list[list[slice]]:
        """Return the blocks of training rows that each rank of the group has, rank 0, which solves, the last ones."""
        size = self.group.size
        blocks = row_blocks(count, reservoir.batch_rows)
        # Each slab is longer than the one before by what adding that one takes, so that no rank waits for the sums.
        growth = 1 + DOUBLE_COST * reservoir.width**2 / (2 * self.steps * reservoir.nodes**2)
        return [slab(blocks, size - 1 - rank, size, growth) for rank in range(size)]

    def _by_ridge_in_group(
        self, reservoir: Reservoir, data: FitnessData, clock: Clock, slabs: list[list[slice]]
    ) -> Judged:
        """As `_by_ridge`: every rank holds the states of its slab, and the sums travel from slab to slab."""
        group, mine = self.group, slabs[self.group.rank]
        sums, found = together(
            group,
            lambda: (
                GramSums(reservoir.width, data.classes),
                list(self._states(reservoir, data, "train", clock, mine)),
            ),
        )

        def add(sums: GramSums) -> None:
            for rows, states in found:
                sums.add(states, one_hot(data.y_train[rows], data.classes))

        add_in_turn(group, sums, add)
        found.clear()
        readout = by_leader(group, lambda: solve(sums, self.config.search.ridge_penalty))
        blocks = slab(row_blocks(len(data.x_val), reservoir.batch_rows), group.rank, group.size)
        parts = together(
            group,
            lambda: [readout.predict(states) for _, states in self._states(reservoir, data, "val", clock, blocks)],
        )
        none = np.empty((0, data.classes), dtype=np.float32)
        scores = stack_rows(group, np.concatenate([none, *parts]))
        return by_leader(group, lambda: judge_scores(_there(scores), data.y_val))

    def _by_training(self, reservoir: Reservoir, data: FitnessData, training: TrainingSection, clock: Clock) -> Judged:
        from rcdp_hpc.training.readout import fit_readout

        states = [self._all_states(reservoir, data, part, clock) for part in PARTS]

        def fit() -> Judged:
            fitted, judged = (_there(found) for found in states)
            probabilities = fit_readout(
                fitted,
                reservoir.kept,
                torch.tensor(data.y_train, dtype=torch.int64),
                judged,
                training=training,
                classes=data.classes,
                epochs=self.config.search.epochs,
                seed=self.config.run.seed,
                before_step=clock.check,
            )
            return judge_scores(probabilities, data.y_val)

        return by_leader(self.group, fit) if self.group.size > 1 else fit()

    def _states(
        self, reservoir: Reservoir, data: FitnessData, part: Part, clock: Clock, blocks: list[slice] | None = None
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield rows and their states, in fixed blocks: all of them, or those given."""
        x, lengths = data.samples(part)
        for rows in row_blocks(len(x), reservoir.batch_rows) if blocks is None else blocks:
            clock.check()
            with self._measured():
                block = x[rows].copy()  # the shared rows are read-only, which torch has no notion of
                own = None if lengths is None else lengths[rows].copy()
                states = reservoir.drive(block, own, noisy=part == "train").cpu()
            yield rows, states

    def _all_states(self, reservoir: Reservoir, data: FitnessData, part: Part, clock: Clock) -> torch.Tensor | None:
        """Return the states of all rows, shape (rows, kept * nodes), on the rank that leads the group."""
        count = len(data.samples(part)[0])
        if self.group.size == 1:
            found = torch.empty((count, reservoir.width), dtype=reservoir.dtype)
            for rows, states in self._states(reservoir, data, part, clock):
                found[rows] = states
            return found
        mine = slab(row_blocks(count, reservoir.batch_rows), self.group.rank, self.group.size)
        parts = together(
            self.group,
            lambda: [states.float().numpy() for _, states in self._states(reservoir, data, part, clock, mine)],
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
    """Return error and accuracy over all rows that the parts are judged by, from those of each."""
    if len(judged) == 1:
        return judged[0]
    rows = np.array([len(part.y_val) for part in parts], dtype=np.float64)
    error, accuracy = (rows / rows.sum()) @ np.array(judged)
    return float(error), float(accuracy)


def judge_scores(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> Judged:
    """Return the mean squared error against one-hot targets, and the accuracy.

    Parameters
    ----------
    scores : ndarray, shape (rows, classes)
    labels : ndarray, shape (rows,)
        Class numbers.
    """
    difference = scores.astype(np.float64) - one_hot(labels, scores.shape[1])
    return float(np.mean(np.square(difference))), float(np.mean(scores.argmax(axis=1) == labels))


def _device(config: Config) -> str:
    """Return the device that states are computed on, in torch's words."""
    if config.search.device == "cpu":
        return "cpu"
    from rcdp_hpc.training.device import device

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
