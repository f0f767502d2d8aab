"""The common checks of scikit-learn."""

from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

from rcdp_hpc.sklearn import ReservoirClassifier


@parametrize_with_checks([ReservoirClassifier()])
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
