from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import ArpackNoConvergence

from rcdp_hpc.config import SearchSection
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.search.evaluation.candidate import evaluate_candidate, score


def test_eq5_by_hand():
    assert score(SearchSection(), 0.25, 0.75) == 4.0
    assert score(SearchSection(), 0.0, 0.75) == score(SearchSection(), 1e-30, 0.75) == 1e12
    # Rank 0 subtracts the density term (test_density_term.py).
    assert score(SearchSection(density_weight=8), 0.25, 0.75) == 4.0


def test_score_follows_the_setting():
    assert score(SearchSection(fitness="accuracy"), 0.5, 0.75) == 0.75


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

    evaluation = evaluate_candidate(measure, {"density": 0.1}, SearchSection())
    assert evaluation.fitness == -np.inf
    assert np.isnan(evaluation.error)
    assert np.isnan(evaluation.accuracy)
    assert evaluation.reason.startswith(reason)


@pytest.mark.parametrize("error", [np.nan, np.inf])
def test_an_error_that_is_not_finite_is_a_failure(error):
    evaluation = evaluate_candidate(lambda values: (error, 0.5), {}, SearchSection())
    assert evaluation.fitness == -np.inf
    assert str(error) in evaluation.reason


@pytest.mark.parametrize("failure", [InputError("wrong"), TypeError("a defect"), RuntimeError("a defect")])
def test_other_errors_are_raised(failure):
    def measure(values):
        raise failure

    with pytest.raises(type(failure)):
        evaluate_candidate(measure, {}, SearchSection())
