"""The common checks of scikit-learn. None is expected to fail."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from rcdp_hpc.sklearn import ReservoirClassifier


# The defaults of a table have 1,000 nodes, which take most of the time; few nodes show rounding more clearly.
@pytest.mark.filterwarnings("ignore:Column vectors")
@parametrize_with_checks([ReservoirClassifier(nodes=50)])
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
