"""Several candidates at once: the results do not depend on the other candidates of the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from recorded_step import reads_back
from search.evaluation.test_inner_folds import folded
from search.group_search import one_pass_data, small_config, small_data
from search.outcome import outcome
from search.ranks import Ranks
from torch.utils._python_dispatch import TorchDispatchMode

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.batch import BatchedFitness
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.limits import TookTooLongError
from rcdp_hpc.search.space import with_values

CANDIDATES = [
    {"density": 0.2, "leak": 0.7, "activation": "tanh"},
    {"density": 0.1, "leak": 1.0, "activation": "sigmoid"},
    {"density": 0.4, "leak": 0.3, "activation": "tanh"},
]
WITHOUT_CYCLE = {"density": 0.0004, "leak": 0.7, "activation": "tanh"}


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


def batched(at_once: int = 4, **search: object) -> Config:
    return small_config(candidates_at_once=at_once, **search)


def bits(evaluation) -> tuple:
    return repr((evaluation.fitness, evaluation.error, evaluation.accuracy)), evaluation.reason


@pytest.mark.parametrize("reduction", [{"states": 2}, {"reduction": ["mean_std", "segments"]}, {"reduction": ["all"]}])
@pytest.mark.parametrize("selection", ["left_out", "validation"])
@pytest.mark.parametrize("together", [False, True])
def test_candidates_at_once_have_the_results_of_single_candidates(reduction, selection, together):
    config, data = batched(), small_data()
    config.readout.ridge_selection = selection
    config = config.model_copy(update={"reservoir": config.reservoir.model_copy(update=reduction)})
    alone = [ReservoirFitness(config, data)(values) for values in CANDIDATES]
    evaluations = BatchedFitness(config, data, together=together).evaluate(CANDIDATES)
    assert [one.error for one in evaluations] == pytest.approx([one.error for one in alone], rel=1e-4)
    assert [one.accuracy for one in evaluations] == pytest.approx([one.accuracy for one in alone], abs=0.011)
    assert all(one.seconds > 0 for one in evaluations)


@pytest.mark.parametrize(
    ("search", "selection"),
    [({}, "left_out"), ({}, "validation"), ({"folds": 3}, "left_out"), ({"folds": 3}, "validation")],
)
@pytest.mark.parametrize("together", [False, True])
def test_criteria_of_candidates_at_once_are_those_of_single_candidates(search, selection, together):
    config = batched(fitness="macro_roc_auc", **search)
    config.readout.ridge_selection, config.readout.ridge_criterion = selection, "balanced_accuracy"
    data = folded(config) if search else small_data()
    alone = [ReservoirFitness(config, data)(values) for values in CANDIDATES]
    evaluations = BatchedFitness(config, data, together=together).evaluate(CANDIDATES)
    assert [one.fitness for one in evaluations] == pytest.approx([one.fitness for one in alone], abs=1e-3)
    assert [one.error for one in evaluations] == pytest.approx([one.error for one in alone], rel=1e-4)
    assert all(0.5 < one.fitness <= 1 for one in alone)


@pytest.mark.parametrize("together", [False, True])
def test_other_candidates_of_the_batch_change_no_bit(together):
    fitness = BatchedFitness(batched(), small_data(), together=together)
    together = [bits(one) for one in fitness.evaluate(CANDIDATES)]
    assert [bits(fitness(values)) for values in CANDIDATES] == together
    assert [bits(one) for one in fitness.evaluate(CANDIDATES[::-1])] == together[::-1]


def test_a_failing_candidate_does_not_change_the_others():
    fitness = BatchedFitness(batched(), small_data())
    first, failed, second = fitness.evaluate([CANDIDATES[0], WITHOUT_CYCLE, CANDIDATES[1]])
    assert bits(failed)[-1] == bits(ReservoirFitness(small_config(), small_data())(WITHOUT_CYCLE))[-1] is not None
    assert [bits(first), bits(second)] == [bits(one) for one in fitness.evaluate(CANDIDATES[:2])]
    assert fitness.evaluate([WITHOUT_CYCLE])[0].reason == failed.reason


def test_with_states_that_overflow_only_that_candidate_fails():
    config, data = batched(), small_data()
    settings = {"activation": "identity", "spectral_radius": 1e30}
    config = config.model_copy(update={"reservoir": config.reservoir.model_copy(update=settings)})
    wild, tame = BatchedFitness(config, data).evaluate(
        [{"density": 0.3, "leak": 1.0}, {"density": 0.3, "leak": 1.0, "activation": "tanh"}]
    )
    assert "overflows" in wild.reason
    assert tame.reason is None


@pytest.mark.parametrize("selection", ["left_out", "validation"])
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("rows", [folded, one_pass_data])
def test_candidates_at_once_with_folds(selection, together, rows):
    config = batched(folds=3)
    config.readout.ridge_selection = selection
    data = rows(config)
    alone = [ReservoirFitness(config, data)(values) for values in CANDIDATES]
    evaluations = BatchedFitness(config, data, together=together).evaluate([*CANDIDATES, WITHOUT_CYCLE])
    assert [one.error for one in evaluations[:3]] == pytest.approx([one.error for one in alone], rel=1e-4)
    assert "cycle" in evaluations[3].reason


@pytest.mark.parametrize("halving", [1, 2])
def test_the_trajectory_does_not_depend_on_ranks(tmp_path, halving):
    config, data = batched(3, halving=halving), small_data()
    run_search(config, SingleProcess(), BatchedFitness(config, data), tmp_path / "1")
    for size in (2, 7):
        Ranks(size).run(lambda comm: run_search(config, comm, BatchedFitness(config, data), tmp_path / str(comm.size)))
        assert outcome(tmp_path / str(size)) == outcome(tmp_path / "1")


def test_a_leak_of_another_number_type_changes_no_bit():
    fitness = BatchedFitness(batched(), small_data())
    plain, typed = fitness.evaluate([CANDIDATES[0], {**CANDIDATES[0], "leak": np.float64(0.7)}])
    assert bits(plain) == bits(typed)


def test_the_weights_of_a_batch_are_those_of_single_reservoirs():
    for kernel in ("dense-fp32", "dense-bf16"):
        config = batched()
        config = config.model_copy(update={"reservoir": config.reservoir.model_copy(update={"kernel": kernel})})
        fitness = BatchedFitness(config, small_data())
        settings = [with_values(config, values).reservoir for values in CANDIDATES]
        weights, built = fitness.matrices.weights(settings)
        alone = [Reservoir(one, 5, kernel, steps=6).only_kernel.stacked_weights() for one in settings]
        assert torch.equal(weights, torch.stack(alone))
        assert built == [True] * 3


def test_a_kernel_of_the_users_own_keeps_its_weights(tmp_path, monkeypatch):
    code = """
from rcdp_hpc.reservoir.kernels.dense import DenseFloat32

class Rounded(DenseFloat32):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.weights = (self.weights * 32).round() / 32
        self._input_weights = self.weights[self.nodes :]
"""
    (tmp_path / "rounded_kernel.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    config = batched()
    own = config.reservoir.model_copy(update={"kernel": "rounded_kernel:Rounded"})
    own = config.model_copy(update={"reservoir": own})
    found = BatchedFitness(own, small_data()).evaluate([*CANDIDATES, WITHOUT_CYCLE])
    alone = [ReservoirFitness(own, small_data())(values) for values in CANDIDATES]
    plain = [one.error for one in BatchedFitness(config, small_data()).evaluate(CANDIDATES)]
    assert [one.error for one in found[:3]] == pytest.approx([one.error for one in alone], rel=1e-4)
    assert [one.error for one in found[:3]] != pytest.approx(plain, rel=1e-3)
    assert "cycle" in found[3].reason


class Calls(TorchDispatchMode):
    """Counts torch calls, and those that the host would have to wait for."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # skipping it would import it, which takes seconds

    def __init__(self):
        super().__init__()
        self.count = 0
        self.read = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += 1
        self.read += reads_back(function, arguments, options or {})
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("selection", ["left_out", "validation"])
def test_a_batch_needs_the_calls_of_a_few_candidates(selection, monkeypatch):
    config, data = batched(32), small_data()
    config.readout.ridge_selection = selection
    single, fitness = ReservoirFitness(config, data), BatchedFitness(config, data, together=True)
    candidates = [{**CANDIDATES[0], "density": 0.1 + 0.01 * place} for place in range(32)]
    fitness.evaluate(candidates[:1])  # copies the rows to the device
    copies = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: copies.append(tensor) or tolist(tensor))
    with Calls() as together:
        fitness.evaluate(candidates)
    with Calls() as alone:
        single(candidates[0])
    assert together.count < 2000
    assert 32 * alone.count > 18 * together.count
    assert together.read == 0
    assert len(copies) <= 2 + (selection == "validation") * len(config.readout.ridge_penalties)


def test_sequences_of_unequal_length_are_refused():
    data = replace(small_data(), lengths_train=np.full(300, 5), lengths_val=np.full(100, 5))
    with pytest.raises(InputError, match="unequal length"):
        BatchedFitness(batched(), data)


def test_a_batch_that_takes_too_long_is_evaluated_one_by_one(monkeypatch):
    fitness = BatchedFitness(batched(candidate_seconds=30.0), small_data())

    def too_long(candidates):
        raise TookTooLongError("took longer than search.candidate_seconds = 30")

    monkeypatch.setattr(fitness, "_measure", too_long)
    alone = [ReservoirFitness(small_config(), small_data())(values) for values in CANDIDATES[:2]]
    assert [bits(one) for one in fitness.evaluate(CANDIDATES[:2])] == [bits(one) for one in alone]
    # A candidate that was alone in its batch has had its time.
    assert fitness(CANDIDATES[0]).reason == "took longer than search.candidate_seconds = 30"


def test_candidates_that_take_too_long_fail_with_their_own_limit():
    fitness = BatchedFitness(batched(candidate_seconds=1e-9), small_data())
    for one in (*fitness.evaluate(CANDIDATES), fitness(CANDIDATES[0])):
        assert one.reason == "took longer than search.candidate_seconds = 1e-09"


def test_a_batch_that_does_not_fit_into_memory_is_evaluated_one_by_one(monkeypatch):
    fitness = BatchedFitness(batched(), small_data())

    def refused(candidates):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(fitness, "_measure", refused)
    alone = [ReservoirFitness(small_config(), small_data())(values) for values in CANDIDATES]
    assert [bits(one) for one in fitness.evaluate(CANDIDATES)] == [bits(one) for one in alone]


def test_a_kernel_of_one_reservoir_is_refused():
    config = batched()
    config = config.model_copy(update={"reservoir": config.reservoir.model_copy(update={"kernel": "sparse-fp32"})})
    with pytest.raises(InputError, match=r"'sparse-fp32' computes one reservoir at a time: .*candidates_at_once = 1"):
        BatchedFitness(config, small_data()).evaluate(CANDIDATES)
