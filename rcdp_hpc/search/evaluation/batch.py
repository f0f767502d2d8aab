"""Several candidates at once: matrices, states, sums, solutions and scores of all of them in batched products.

On a GPU the host needs longer to start a small product than the GPU needs to compute it. A batch makes one call for all
of its candidates, and reads back one copy for each penalty at most.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from rcdp_hpc.config import Config, ReservoirSection
from rcdp_hpc.config.choices import is_user_class
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.connection import ReservoirMatrices, leak_rates
from rcdp_hpc.reservoir.kept_steps import input_features
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.stacked import StackedReservoirs, check_stacked
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.logs import warn_once
from rcdp_hpc.search.checks import check_lengths
from rcdp_hpc.search.evaluation.base import Fitness
from rcdp_hpc.search.evaluation.batch_evaluator import BatchEvaluator
from rcdp_hpc.search.evaluation.batched_data import DeviceRows
from rcdp_hpc.search.evaluation.batched_matrices import BatchedMatrices, KernelWeights
from rcdp_hpc.search.evaluation.candidate import Evaluation, Measured, evaluate_candidate
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness, states_device
from rcdp_hpc.search.evaluation.limits import TookTooLongError, time_limit
from rcdp_hpc.search.evaluation.rank_group import attempt
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.search.space import Values, with_values

log = logging.getLogger(__name__)


# What is measured of a candidate, its failure, or None if it has to be evaluated alone.
Result = Measured | CandidateError | None


class BatchedFitness(Fitness):
    """The fitness of `ReservoirFitness`, by ridge, for ``search.candidates_at_once`` candidates at once.

    The result of a candidate does not depend on the others in its batch: a batch that is not full is filled up. Errors
    differ from those of `ReservoirFitness` by a relative 1e-4 at most on reservoirs that forget their past: the states
    are those of another product, and the sums have another order. With folds and fewer rows than features, a CPU has
    the dual form for a single candidate, with the scale of all rows (`rcdp_hpc.reservoir.dual_folds`), which differs
    more. A candidate that fails in a batch is evaluated alone,
    so that its reason is that of `ReservoirFitness`. So are all candidates of a batch that does not fit into memory, or
    takes longer than ``search.candidate_seconds`` for each of them.

    Parameters
    ----------
    config, data : Config, FitnessData
        As in `ReservoirFitness`.
    memory : int, optional
        Most bytes of main memory that all candidates of a batch may need by estimate; unlimited by default. On a GPU
        only a candidate that is evaluated alone needs main memory.
    idle_cores : int
        As in `ReservoirFitness`.
    together : bool, optional
        Whether calls may join candidates for which a CPU rounds in another way; default: unless the device is a CPU.
        They include spectral radii by `rcdp_hpc.reservoir.gelfand`.

    Raises
    ------
    InputError
        As in `ReservoirFitness`, if samples have different numbers of steps, or if the kernel computes one reservoir at
        a time.
    """

    def __init__(
        self,
        config: Config,
        data: FitnessData,
        memory: int = sys.maxsize,
        idle_cores: int = 0,
        together: bool | None = None,
    ) -> None:
        self.candidates_at_once = config.search.candidates_at_once
        unequal = any(data.samples(part)[1] is not None for part in ("train", "val"))
        check_lengths(config, unequal)
        self.config = config
        self.together = together
        if states_device(config) == "cpu":
            self.single = ReservoirFitness(config, data, memory // self.candidates_at_once, idle_cores)
        else:
            self.single = ReservoirFitness(config, data, memory)
        self.like = _reservoir(config.reservoir, data, self.single.device)
        check_stacked(self.like)
        # One eigendecomposition takes a CPU less than the Cholesky factors of all penalties.
        lapack = not together if together is not None else self.single.device == "cpu"
        self._evaluator = BatchEvaluator(config, self.like, lapack, self.single.criterion)
        self._matrices: BatchedMatrices | KernelWeights | None = None
        self._rows: DeviceRows | None = None

    def prepare(self, candidates: list[Values]) -> None:
        """Let spectral radii of these candidates be computed ahead, unless the device computes them."""
        self.single.prepare(candidates)

    def close(self) -> None:
        """End the processes that compute spectral radii."""
        self.single.close()

    def set_share(self, share: float) -> BatchedFitness:
        """Evaluate the next candidates on the first rows, this share of all; return this object."""
        self.single.set_share(share)
        return self

    def __call__(self, values: Values) -> Evaluation:
        """Evaluate the candidate with these values, in a batch without others."""
        return self.evaluate([values])[0]

    def evaluate(self, candidates: list[Values]) -> list[Evaluation]:
        """Evaluate at most `candidates_at_once` candidates; each has an equal share of the seconds of the batch."""
        started = time.perf_counter()
        prepared = {place: one for place, one in enumerate(map(self._prepared, candidates)) if one is not None}
        # Equal activations one after the other need fewer calls.
        order = sorted(prepared, key=lambda place: prepared[place].activation)
        results = self._measured([prepared[place] for place in order])
        seconds = (time.perf_counter() - started) / max(1, len(order))
        found = {place: one for place, one in zip(order, results, strict=True) if one is not None}
        return [
            self._evaluation(found[place], values, seconds) if place in found else self.single(values)
            for place, values in enumerate(candidates)
        ]

    def _evaluation(self, result: Measured | CandidateError, values: Values, seconds: float) -> Evaluation:
        def measured(values: Values) -> Measured:
            if isinstance(result, CandidateError):
                raise result
            return result

        return replace(evaluate_candidate(measured, values, self.config.search), seconds=seconds)

    def _prepared(self, values: Values) -> ReservoirSection | None:
        """Return the settings of a candidate; None if it has to be evaluated alone."""

        def work() -> ReservoirSection | None:
            settings = with_values(self.config, values)
            self.single.check_memory(settings)
            leak_rates(settings.reservoir)
            return settings.reservoir if self.matrices.connections(settings.reservoir) else None

        return attempt(work)[0]

    @property
    def matrices(self) -> BatchedMatrices | KernelWeights:
        """Builds the weights of the candidates."""
        if self._matrices is None:
            like, cache = self.like, self.single.cache
            if is_user_class(like.kernel):
                self._matrices = KernelWeights(like, cache)
            else:
                self._matrices = BatchedMatrices(
                    self.config.reservoir, like.inputs, like.dtype, like.device, cache, self.together
                )
        return self._matrices

    def _measured(self, candidates: list[ReservoirSection]) -> list[Result]:
        """Return the result of each candidate."""
        if not candidates:
            return []
        measured, failure = attempt(lambda: self._in_time(candidates))
        if measured is not None:
            return measured
        if failure is not None and not isinstance(failure, CandidateError):
            raise failure
        warn_once(
            log,
            "batch",
            f"search.candidates_at_once = {self.candidates_at_once}: a batch could not be computed ({failure}); its "
            "candidates are evaluated one after the other",
        )
        return [None] * len(candidates)

    def _in_time(self, candidates: list[ReservoirSection]) -> list[Result]:
        """Measure candidates in the time of all of them; one that is alone in its batch fails if that is over."""
        count, each = len(candidates), self.config.search.candidate_seconds
        try:
            with time_limit(count * each):
                return self._measure(candidates)
        except TookTooLongError as failure:
            if count == 1:
                return [failure]
            raise CandidateError(f"it took longer than {count} times search.candidate_seconds = {each:g}") from None

    def _measure(self, candidates: list[ReservoirSection]) -> list[Result]:
        count = len(candidates)
        filled = candidates + candidates[:1] * (self.candidates_at_once - count)
        with torch.no_grad():
            weights, built = self.matrices.weights(filled)
            activations = [one.activation for one in filled]
            stack = StackedReservoirs(self.like, weights, self._leaks(filled), activations, self.together)
            results = self._evaluator.results(stack, self._device_rows())[:count]
        return [
            one if is_built and np.isfinite(one[:2]).all() else None
            for one, is_built in zip(results, built, strict=False)
        ]

    def _device_rows(self) -> DeviceRows:
        data = self.single.rows
        if self._rows is None or self._rows.data is not data:
            self._rows = DeviceRows(self.config, self.like, data)
        return self._rows

    def _leaks(self, candidates: Sequence[ReservoirSection]) -> Tensor:
        """Return the leak rates, shape (candidates, 1) or (candidates, nodes), float32."""
        drawn = [leak_rates(one) for one in candidates]
        rates = [np.array([one.leak]) if rate is None else rate for one, rate in zip(candidates, drawn, strict=True)]
        return torch.from_numpy(np.stack(rates).astype(np.float32)).to(self.like.device)


def _reservoir(settings: ReservoirSection, data: FitnessData, device: str) -> Reservoir:
    """Return a reservoir with the settings that all candidates share, whose own matrices are 0."""
    if settings.kind != "random" or not settings.is_plain:  # a rule of the configuration refuses this
        raise AssertionError(f"reservoir.kind = {settings.kind!r} has no reservoirs to stack")
    steps, features = Sequencer.of(settings).shape(data.x_train.shape[1:])
    nodes, inputs = settings.nodes, input_features(settings, features)
    empty = scipy.sparse.csr_array((nodes, nodes), dtype=np.float64)
    matrices = ReservoirMatrices(empty, np.zeros((nodes, inputs)), np.zeros(nodes))
    kernel = "dense-fp32" if settings.kernel == "auto" else settings.kernel
    return Reservoir(settings, features, kernel, device, matrices, steps)
