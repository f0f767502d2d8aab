from __future__ import annotations

import signal

import numpy as np
import pytest
from search.fake_fitness import CheapFitness, FunctionOfValues, cheap_config
from search.ranks import Ranks

from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.evaluator import COLUMNS, EVALUATED, FAILED, PATIENCE_FACTOR, Evaluator, Loads
from rcdp_hpc.search.space import searched_space

CONFIG = cheap_config()
SPACE = searched_space(CONFIG.search)
VALUES = np.array([[0.1, 1.0, 0.5], [0.2, 1.0, 0.9], [0.3, 2.0, 0.4], [0.4, 0.5, 0.2], [0.2, 1.0, 0.3]])


def test_results_come_in_the_order_of_the_candidates():
    evaluations = Evaluator(SingleProcess(), CheapFitness(CONFIG), SPACE).evaluate(VALUES)
    direct = [CheapFitness(CONFIG)(SPACE.named(row)) for row in VALUES]
    assert [(e.fitness, e.reason) for e in evaluations] == [(d.fitness, d.reason) for d in direct]
    assert evaluations[1].reason.startswith("leak 0.9")


@pytest.mark.parametrize("size", [2, 3, 4, 7])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_any_number_of_ranks_gives_the_same(size, count):
    def work(comm):
        return Evaluator(comm, CheapFitness(CONFIG), SPACE).evaluate(VALUES[:count] if comm.is_root else None)

    found, *others = Ranks(size).run(work)
    assert others == [None] * (size - 1)
    alone = Evaluator(SingleProcess(), CheapFitness(CONFIG), SPACE).evaluate(VALUES[:count])
    assert [(f.fitness, f.reason) for f in found] == [(a.fitness, a.reason) for a in alone]
    assert len({f.rank for f in found}) == min(size, count)


def test_an_error_of_one_rank_is_raised_on_all():
    def work(comm):
        def fitness(values):
            if comm.rank == 2:
                raise StageFailedError("the disk is full")
            return Evaluation(1, 1, 1)

        return Evaluator(comm, FunctionOfValues(fitness), SPACE).evaluate(VALUES if comm.is_root else None)

    for error in Ranks(3).run(work):
        assert isinstance(error, StageFailedError)
        assert str(error) == "rank 2: the disk is full"


def test_a_stop_signal_leaves_the_rest_pending():
    fitness = CheapFitness(CONFIG)

    def stopping(values):
        if fitness.calls == 1:
            signals._remember(signal.SIGUSR1, None)
        return fitness(values)

    found = Evaluator(SingleProcess(), FunctionOfValues(stopping), SPACE).evaluate(VALUES)
    # Longest first: before any measurement the predicted cost grows with the density.
    assert [evaluation is None for evaluation in found] == [True, True, False, False, True]


def test_progress_counts_every_candidate_once():
    advanced = []
    Evaluator(SingleProcess(), CheapFitness(CONFIG), SPACE, advanced.append).evaluate(VALUES)
    assert sum(advanced) == len(VALUES)


def evaluated(status: list[float]) -> np.ndarray:
    rows = np.zeros((len(status), len(COLUMNS)))
    rows[:, COLUMNS.index("status")] = status
    return rows


def test_the_patience_with_other_ranks_follows_from_their_candidates():
    evaluator = Evaluator(Ranks(3).members[0], CheapFitness(CONFIG), SPACE, stall_seconds=600)
    done = evaluated([EVALUATED, EVALUATED])
    # This rank took 100 s for its 2 units of cost, so that 40 units take 2000 s.
    assert evaluator._patience(done, 100.0, Loads([2.0, 40.0, 1.0], 0.0)) == PATIENCE_FACTOR * 2000
    assert evaluator._patience(done, 1.0, Loads([2.0, 40.0, 1.0], 5000.0)) == PATIENCE_FACTOR * 5000
    assert evaluator._patience(done, 1.0, Loads([2.0, 2.0, 2.0], 0.0)) == PATIENCE_FACTOR * 600
    # Without measured seconds there is no limit.
    assert evaluator._patience(evaluated([]), 1.0, Loads([0.0, 2.0, 2.0], 0.0)) == 0
    assert evaluator._patience(evaluated([EVALUATED, FAILED]), 1.0, Loads([2.0, 2.0, 2.0], 0.0)) == 0
