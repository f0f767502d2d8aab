"""The fitness of candidates: build the source of a candidate's states, fit a readout, evaluate it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config, check_candidates
from rcdp_hpc.networks.extractors.none import NoExtractor
from rcdp_hpc.reservoir.device_sums import sums_device
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.identity_source import IdentitySource
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.search.evaluation.base import Fitness
from rcdp_hpc.search.evaluation.candidate import Evaluation, Measured, evaluate_candidate
from rcdp_hpc.search.evaluation.fold_evaluator import FoldEvaluator
from rcdp_hpc.search.evaluation.limits import Clock, estimated_bytes, refuse_too_large, time_limit
from rcdp_hpc.search.evaluation.matrix_cache import MatrixCache
from rcdp_hpc.search.evaluation.measured import (
    check_fitness_rows,
    evaluated,
    fitness_criterion,
)
from rcdp_hpc.search.evaluation.radii_ahead import RadiiAhead
from rcdp_hpc.search.evaluation.rank_group import (
    add_in_turn,
    on_leading_rank,
    partition,
    row_blocks,
    run_on_group,
    run_on_leader,
    run_undivided,
    stack_rows,
)
from rcdp_hpc.search.evaluation.ridge import (
    add_rows,
    empty_sums,
    evaluate_left_out,
    evaluate_on_validation,
    row_weights,
    uses_left_out,
)
from rcdp_hpc.search.evaluation.rows import FitnessData, Part
from rcdp_hpc.search.evaluation.source import candidate_source, partition_growth
from rcdp_hpc.search.space import Values, with_values

PARTS: tuple[Part, Part] = ("train", "val")
Source = Reservoir | IdentitySource
# Most processes that compute radii ahead: the rest of a candidate usually takes longer than its radius.
MOST_AHEAD = 2


class ReservoirFitness(Fitness):
    """The fitness of a reservoir and its readout, or of a readout of the sequences themselves (`search.fitness`).

    E is the mean over rows and classes of the squared difference between the readout's scores and one-hot targets. With
    few rows, each original row is scored by the readout that is fitted without it; otherwise the validation rows are
    scored. With folds, the held-out rows of all folds are scored. With ``search.evaluation = "train"`` the scores are
    what the loss drives to one-hot (`rcdp_hpc.networks.losses.Loss.driven`) on validation rows. The ridge penalty is
    chosen for each candidate before E is computed.

    The result depends on the candidate's values and the configuration only. Its last digits depend on the number of
    threads: call it within `rcdp_hpc.runtime.threads.limit_threads`. The ranks of a group call it together and get the
    bits of a single rank.

    Parameters
    ----------
    config : Config
        ``reservoir.kernel = "auto"``, which the pipeline replaces by a measured kernel, is dense-fp32.
    data : FitnessData
        The rows that candidates are fitted to and evaluated on.
    memory : int, optional
        Most bytes that a candidate may need by estimate; unlimited by default.
    idle_cores : int
        Cores on which spectral radii of the next candidates are computed ahead; a GPU computes them itself.

    Raises
    ------
    InputError
        If the samples cannot be cut into the configured sequences, a sample has fewer steps than the states that the
        readout needs, or ``search.device`` is "gpu" and torch sees no GPU.
    """

    uses_groups = True

    def __init__(self, config: Config, data: FitnessData, memory: int = sys.maxsize, idle_cores: int = 0) -> None:
        self.config = config
        self.data = data
        self.memory = memory
        self.device = states_device(config)
        self.criterion = fitness_criterion(config.search, data.class_names)
        self.rows = data  # the rows that the next candidates are evaluated on
        self.group: Communicator = SingleProcess()
        on_gpu = self.device != "cpu"
        self.cache = MatrixCache(
            ahead=None if on_gpu else _radii_ahead(config, idle_cores), device=self.device if on_gpu else None
        )
        self.steps = self._shape(config)[0]
        self._check_lengths()
        check_fitness_rows(config, data)
        # Seconds of the work that a group divides, summed over its ranks, and of all work of a single rank.
        self._divided = 0.0
        self._total = 0.0

    def set_group(self, group: Communicator) -> ReservoirFitness:
        """Evaluate the next candidates together with the ranks of a group; return this object."""
        self.group = group
        return self

    def set_share(self, share: float) -> ReservoirFitness:
        """Evaluate the next candidates on the first rows, this share of all; return this object."""
        self.rows = self.data.first(share) if share < 1 else self.data
        return self

    def prepare(self, candidates: list[Values]) -> None:
        """Let spectral radii of these candidates be computed ahead, except for the first one, which is needed now."""
        if self.cache.ahead is not None:
            self.cache.prepare(with_values(self.config, values).reservoir for values in candidates[1:])

    def close(self) -> None:
        """End the processes that compute spectral radii."""
        if self.cache.ahead is not None:
            self.cache.ahead.close()

    @property
    def parallel_share(self) -> float:
        """The measured share of the time of a candidate that a group divides; 0.8 without measurements."""
        return self._divided / self._total if self._total else 0.8

    def __call__(self, values: Values) -> Evaluation:
        """Evaluate the candidate with these values."""
        return evaluate_candidate(self.measure, values, self.config.search)

    def measure(self, values: Values) -> Measured:
        """Return the validation error E, the accuracy and the criterion of the candidate with these values.

        Raises
        ------
        CandidateError
            If its reservoir cannot be built, its readout cannot be fitted, or its time is up.
        """
        settings = with_values(self.config, values)
        started = time.perf_counter()
        divided_before = self._divided
        with time_limit(settings.search.candidate_seconds, alarm=self.group.size == 1) as clock:
            source = run_on_group(self.group, lambda: self.source(settings))
            result = self._evaluate(settings, source, clock)
        divided = self._divided - divided_before
        # A single rank would have done all of the divided work.
        self._total += time.perf_counter() - started + divided * (1 - 1 / self.group.size)
        return result

    def _shape(self, config: Config) -> tuple[int, int]:
        return Sequencer.of(config.reservoir).shape(self.data.x_train.shape[1:])

    def _check_lengths(self) -> None:
        """Refuse samples with fewer steps than the states that the readout needs."""
        lengths = [steps for _, steps in map(self.data.samples, PARTS) if steps is not None]
        shortest = min((int(steps.min()) for steps in lengths), default=None)
        shape = self.data.x_train.shape[1:]
        check_candidates(self.config, lambda one: NoExtractor(one, shape).checked_shape(shortest))

    def source(self, settings: Config) -> Source:
        """Build the source of a candidate's states.

        Parameters
        ----------
        settings : Config
            Configuration with the candidate's values.

        Raises
        ------
        CandidateError
            If it cannot be built, or the candidate needs too much memory.
        """
        self.check_memory(settings)
        sample_shape, features = self.data.x_train.shape[1:], self.data.features
        return candidate_source(settings.reservoir, sample_shape, self.device, self.cache, features)

    def check_memory(self, settings: Config) -> None:
        """Raise a `CandidateError` if a candidate needs too much memory."""
        refuse_too_large(self._estimated_bytes(settings), self.memory)

    def _estimated_bytes(self, settings: Config) -> int:
        rows = len(self.data.x_train) + len(self.data.x_val)
        return estimated_bytes(settings, self._shape(settings), rows, self.data.classes)

    def _evaluate(self, settings: Config, source: Source, clock: Clock) -> Measured:
        data = self.rows
        if data.folds or data.parent_folds is not None:
            return self._fold_evaluator(settings, source, clock).result(data)
        if settings.search.evaluation == "train":
            train_states = self._gathered(source, *data.samples("train"), True, clock)
            val_states = self._gathered(source, *data.samples("val"), False, clock)
            return run_undivided(
                self.group,
                lambda: evaluated(
                    self._train(settings, source, train_states, val_states, data, clock), data.y_val, self.criterion
                ),
            )
        count = len(data.originals.y) + len(data.y_val)
        if uses_left_out(settings, count, source.width):
            rows = data.left_out_rows
            states = self._gathered(source, rows.x, rows.lengths, True, clock)
            return run_undivided(
                self.group, lambda: evaluate_left_out(settings, on_leading_rank(states), data, self.criterion)
            )
        return self._on_validation_rows(settings, source, data, clock)

    def _fold_evaluator(self, settings: Config, source: Source, clock: Clock) -> FoldEvaluator:
        return FoldEvaluator(
            settings,
            source.width,
            lambda x, lengths, noisy: self._gathered(source, x, lengths, noisy, clock),
            self.group,
            lambda train, val, fold: self._train(settings, source, train, val, fold, clock),
            clock.check,
            self.criterion,
        )

    def _on_validation_rows(self, settings: Config, source: Source, data: FitnessData, clock: Clock) -> Measured:
        if self.group.size == 1:
            return self._on_validation(settings, source, data, clock)
        partitions = self._partitions(source, len(data.x_train))
        longest = max(sum(rows.stop - rows.start for rows in blocks) for blocks in partitions)
        is_large = self._estimated_bytes(settings) + longest * source.width * source.dtype.itemsize > self.memory
        # A GPU adds the rows in less time than its sums take to the next rank.
        if is_large or sums_device(source.device) is not None:
            divided = self._divided
            result = run_on_leader(self.group, lambda: self._on_validation(settings, source, data, clock))
            self._divided = divided  # the group divided nothing
            return result
        return self._on_validation_in_group(settings, source, data, clock, partitions)

    def _on_validation(self, settings: Config, source: Source, data: FitnessData, clock: Clock) -> Measured:
        weights, sums = row_weights(settings, data), empty_sums(source.width, data.classes, source.device)
        for rows, states in self._states(source, *data.samples("train"), True, clock):
            add_rows(sums, states, data.y_train[rows], data.classes, weights)
        val_states = [states for _, states in self._states(source, *data.samples("val"), False, clock)]
        return evaluate_on_validation(settings, sums, torch.cat(val_states), data, self.criterion)

    def _partitions(self, source: Source, count: int) -> list[list[slice]]:
        """Return the blocks of training rows of each rank of the group; rank 0, which solves, has the last ones."""
        size = self.group.size
        blocks = row_blocks(count, source.batch_rows)
        growth = partition_growth(source, self.steps)
        return [partition(blocks, size - 1 - rank, size, growth) for rank in range(size)]

    def _on_validation_in_group(
        self, settings: Config, source: Source, data: FitnessData, clock: Clock, partitions: list[list[slice]]
    ) -> Measured:
        """Evaluate as `_on_validation`; every rank stores the states of its rows and adds them to the sums in turn."""
        group = self.group
        blocks = partitions[group.rank]
        weights = row_weights(settings, data)
        sums, train_states = run_on_group(
            group,
            lambda: (
                GramSums(source.width, data.classes),
                list(self._states(source, *data.samples("train"), True, clock, blocks)),
            ),
        )

        def add(sums: GramSums) -> None:
            for rows, states in train_states:
                add_rows(sums, states, data.y_train[rows], data.classes, weights)

        add_in_turn(group, sums, add)
        train_states.clear()
        val_states = self._gathered(source, *data.samples("val"), False, clock)
        return run_on_leader(
            group, lambda: evaluate_on_validation(settings, sums, on_leading_rank(val_states), data, self.criterion)
        )

    def _train(
        self,
        settings: Config,
        source: Source,
        train_states: torch.Tensor | None,
        val_states: torch.Tensor | None,
        data: FitnessData,
        clock: Clock,
    ) -> NDArray[np.float64]:
        """Return what approximates one-hot on the validation rows, shape (rows, classes)."""
        from rcdp_hpc.training.solve.short_training import fit_readout

        return fit_readout(
            on_leading_rank(train_states),
            source.feature_shape,
            torch.tensor(data.y_train, dtype=torch.int64),
            on_leading_rank(val_states),
            config=settings,
            classes=data.classes,
            epochs=self.config.search.epochs,
            seed=self.config.run.seed,
            validation_labels=torch.tensor(data.y_val, dtype=torch.int64),
            before_step=clock.check,
            class_names=data.names,
        )

    def _states(
        self,
        source: Source,
        x: NDArray[Any],
        lengths: NDArray[np.int64] | None,
        noisy: bool,
        clock: Clock,
        blocks: list[slice] | None = None,
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield rows and their states, block by block, for the given blocks or for all."""
        for rows in row_blocks(len(x), source.batch_rows) if blocks is None else blocks:
            clock.check()
            with self._divided_time():
                block = x[rows].copy()  # the shared rows are read-only, which torch does not support
                steps = None if lengths is None else lengths[rows].copy()
                states = source.drive(block, steps, noisy=noisy)
            yield rows, states

    def _gathered(
        self, source: Source, x: NDArray[Any], lengths: NDArray[np.int64] | None, noisy: bool, clock: Clock
    ) -> torch.Tensor | None:
        """Return the states of all rows, shape (rows, width), on the leading rank of the group, None on others."""
        if self.group.size == 1:
            all_states = torch.empty((len(x), source.width), dtype=source.dtype, device=source.device)
            for rows, states in self._states(source, x, lengths, noisy, clock):
                all_states[rows] = states
            return all_states
        blocks = partition(row_blocks(len(x), source.batch_rows), self.group.rank, self.group.size)
        parts = run_on_group(
            self.group,
            lambda: [
                states.float().cpu().numpy() for _, states in self._states(source, x, lengths, noisy, clock, blocks)
            ],
        )
        empty = np.empty((0, source.width), dtype=np.float32)  # for a rank without blocks
        stacked = stack_rows(self.group, np.concatenate([empty, *parts]))
        return None if stacked is None else torch.from_numpy(stacked).to(source.device, source.dtype)

    @contextmanager
    def _divided_time(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._divided += (time.perf_counter() - started) * self.group.size


def _radii_ahead(config: Config, idle_cores: int) -> RadiiAhead | None:
    """Return what computes radii ahead; None without idle cores, or if candidates need none that are expensive."""
    reservoir = config.reservoir
    needed = reservoir.kind == "random" and reservoir.is_plain and reservoir.scaling == "spectral_radius"
    if idle_cores < 1 or not needed:
        return None
    return RadiiAhead(min(idle_cores, MOST_AHEAD))


def states_device(config: Config) -> str:
    """Return torch's name of the device that computes states."""
    if config.search.device == "cpu":
        return "cpu"
    from rcdp_hpc.runtime.device import device

    return str(device(config.search.device, "search.device"))
