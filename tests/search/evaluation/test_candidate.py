from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import ArpackNoConvergence

from rcdp_hpc.config import SearchSection
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.search.evaluation.candidate import density_penalised_fitness, evaluate_candidate, score


def test_eq5_by_hand():
    assert density_penalised_fitness(0.25, 0.3, 0.0, 0.1) == 4.0
    assert density_penalised_fitness(0.25, 0.5, 8.0, 0.25) == 4.0 - 8 * 0.0625
    assert density_penalised_fitness(0.0, 0.1, 1.0, 0.1) == 1e12
    assert density_penalised_fitness(1e-30, 0.1, 0.0, 0.1) == 1e12


def test_score_follows_the_setting():
    assert score(SearchSection(fitness="accuracy"), 0.5, 0.75, 0.1) == 0.75
    assert score(SearchSection(density_weight=2, density_target=0.1), 0.5, 0.75, 0.6) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (CandidateError("no cycle"), "no cycle"),
        (np.linalg.LinAlgError("Singular matrix"), "LinAlgError: Singular matrix"),
        (ArpackNoConvergence("no convergence", np.zeros(0), np.zeros(0)), "ArpackNoConvergence"),
        (MemoryError("Unable to allocate 9 GiB"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 99"), "out of memory"),
        (FloatingPointError("overflow"), "FloatingPointError: overflow"),
    ],
)
def test_a_failing_candidate_is_the_worst_with_its_reason(failure, reason):
    def measure(values):
        raise failure

    evaluation = evaluate_candidate(measure, {"density": 0.1}, SearchSection(), 0.1)
    assert evaluation.fitness == -np.inf
    assert np.isnan(evaluation.error)
    assert np.isnan(evaluation.accuracy)
    assert evaluation.reason.startswith(reason)


@pytest.mark.parametrize("error", [np.nan, np.inf])
def test_an_error_that_is_not_finite_is_a_failure(error):
    evaluation = evaluate_candidate(lambda values: (error, 0.5), {}, SearchSection(), 0.1)
    assert evaluation.fitness == -np.inf
    assert str(error) in evaluation.reason


@pytest.mark.parametrize("failure", [InputError("wrong"), TypeError("a defect"), RuntimeError("a defect")])
def test_other_errors_are_raised(failure):
    def measure(values):
        raise failure

    with pytest.raises(type(failure)):
        evaluate_candidate(measure, {}, SearchSection(), 0.1)
