"""Groups of ranks give the bits of one rank."""

from __future__ import annotations

import numpy as np
import pytest
from search.group_search import small_config, small_data
from search.ranks import Ranks

from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.reservoir import left_out
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation import fitness, ridge
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.rank_group import partition, row_blocks
from rcdp_hpc.search.evaluator import Evaluator
from rcdp_hpc.search.records.journal import Journal
from rcdp_hpc.search.space import searched_space, with_values
from rcdp_hpc.training.solve import candidate_solution

VALUES = {"density": 0.2, "leak": 0.7, "activation": "tanh"}


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


def bits(evaluation) -> tuple:
    return repr(
        (evaluation.fitness, evaluation.error, evaluation.accuracy)
    ), evaluation.reason  # repr compares NaN and all bits


def test_partitions_are_consecutive_and_grow():
    blocks = row_blocks(1000, 32)
    assert blocks[0] == slice(0, 32)
    assert blocks[-1] == slice(992, 1000)
    for size in (1, 2, 3, 7, 50):
        for growth in (1.0, 1.3):
            parts = [partition(blocks, place, size, growth) for place in range(size)]
            assert [block for part in parts for block in part] == blocks
    assert len(partition(blocks, 0, 2, 1.5)) < len(partition(blocks, 1, 2, 1.5))


@pytest.mark.parametrize("evaluation", ["ridge", "train"])
@pytest.mark.parametrize("size", [2, 3, 4, 7, 13])
def test_a_group_gives_the_bits_of_one_rank(size, evaluation):
    config, data = small_config(evaluation=evaluation), small_data()
    alone = bits(ReservoirFitness(config, data)(VALUES))
    assert alone[-1] is None

    def work(comm):
        return bits(ReservoirFitness(config, data).set_group(comm)(VALUES))

    assert Ranks(size).run(work) == [alone] * size


@pytest.mark.parametrize(
    ("evaluation", "selection"), [("ridge", "validation"), ("ridge", "left_out"), ("train", "auto")]
)
def test_states_on_a_device_give_the_errors_of_the_cpu_and_the_bits_of_any_group(monkeypatch, evaluation, selection):
    config, data = small_config(evaluation=evaluation), small_data()
    config.readout.ridge_selection = selection
    expected = ReservoirFitness(config, data)(VALUES)
    for module in (fitness, ridge, left_out, candidate_solution):
        monkeypatch.setattr(module, "sums_device", lambda device: device)  # torch instead of BLAS, as on a GPU
    alone = ReservoirFitness(config, data)(VALUES)
    assert alone.reason is None
    assert alone.error == pytest.approx(expected.error, rel=1e-6)
    assert alone.accuracy == expected.accuracy
    found = Ranks(3).run(lambda comm: bits(ReservoirFitness(config, data).set_group(comm)(VALUES)))
    assert found == [bits(alone)] * 3


@pytest.mark.parametrize("values", [{**VALUES, "density": 0.0004}, {**VALUES, "density": 1e-9}])
def test_a_failing_candidate_has_the_same_reason_on_all_ranks(values):
    config, data = small_config(), small_data()
    alone = bits(ReservoirFitness(config, data)(values))
    assert alone[-1]
    found = Ranks(3).run(lambda comm: bits(ReservoirFitness(config, data).set_group(comm)(values))[-1])
    assert found == [alone[-1]] * 3


def test_rows_that_are_not_finite_on_one_rank_fail_on_all():
    config, data = small_config(), small_data()
    data.x_train[290] = np.nan
    alone = bits(ReservoirFitness(config, data)(VALUES))
    assert "not finite" in alone[-1]
    found = Ranks(4).run(lambda comm: bits(ReservoirFitness(config, data).set_group(comm)(VALUES))[-1])
    assert found == [alone[-1]] * 4


@pytest.mark.parametrize(("size", "group_ranks"), [(2, 2), (3, 2), (4, 2), (7, 3), (7, 0), (4, 1), (5, 5)])
def test_evaluations_do_not_depend_on_ranks_or_groups(size, group_ranks):
    config, data = small_config(), small_data()
    space = searched_space(config.search)
    values = np.array([[0.1, 0.5, 0], [0.4, 0.9, 1], [0.0004, 0.9, 0]])
    alone = [
        bits(found) for found in Evaluator(SingleProcess(), ReservoirFitness(config, data), space).evaluate(values)
    ]

    def work(comm):
        evaluator = Evaluator(comm, ReservoirFitness(config, data), space, group_ranks=group_ranks)
        found = evaluator.evaluate(values if comm.is_root else None)
        return evaluator.workers, found and [bits(one) for one in found]

    (workers, found), *_ = Ranks(size).run(work)
    assert found == alone
    if group_ranks:
        assert workers == max(1, size // group_ranks)
    else:
        assert workers == 3  # more ranks than candidates: 7 ranks form 3 groups


def test_more_ranks_per_group_than_ranks_is_refused(tmp_path):
    config = small_config(group_ranks=2)
    with pytest.raises(InputError, match=r"search.group_ranks = 2 is more than the 1 ranks"):
        run_search(config, SingleProcess(), ReservoirFitness(config, small_data()), tmp_path)


@pytest.mark.parametrize("step", ["begin", "announce", "record"])
def test_an_error_of_the_leaders_journal_is_raised_on_its_group(tmp_path, monkeypatch, step):
    def full(*_):
        raise StageFailedError("no space left to write")

    monkeypatch.setattr(Journal, step, full)
    config, data = small_config(candidate_seconds=60.0), small_data()
    space = searched_space(config.search)
    values = np.array([[0.1, 0.5, 0], [0.4, 0.9, 1]])

    def work(comm):
        journal = Journal(tmp_path, comm.rank, "here", limit=60.0)
        evaluator = Evaluator(comm, ReservoirFitness(config, data), space, group_ranks=2, journal=journal)
        return evaluator.evaluate(values if comm.is_root else None)

    for error in Ranks(2).run(work):
        assert str(error) == "no space left to write"


def test_a_training_over_its_time_fails_in_a_group_without_an_alarm():
    config, data = small_config(evaluation="train", epochs=3000, candidate_seconds=1.0), small_data()
    found = Ranks(2).run(lambda comm: bits(ReservoirFitness(config, data).set_group(comm)(VALUES))[-1])
    assert found == ["took longer than search.candidate_seconds = 1"] * 2


@pytest.mark.parametrize("spare", [True, False])
def test_the_leader_evaluates_alone_if_the_states_of_a_group_do_not_fit(monkeypatch, spare):
    config, data = small_config(), small_data()
    config.readout.ridge_selection = "validation"
    alone = bits(ReservoirFitness(config, data)(VALUES))
    whole = ReservoirFitness._on_validation_in_group
    divided = []
    monkeypatch.setattr(
        ReservoirFitness, "_on_validation_in_group", lambda *arguments: divided.append(1) or whole(*arguments)
    )
    fits = ReservoirFitness(config, data)._estimated_bytes(with_values(config, VALUES))
    states = 300 * 40 * 2 * 4 * spare  # rows, nodes, states, bytes: an upper bound of each partition

    def work(comm):
        return bits(ReservoirFitness(config, data, fits + states).set_group(comm)(VALUES))

    assert Ranks(3).run(work) == [alone] * 3
    assert len(divided) == 3 * spare
