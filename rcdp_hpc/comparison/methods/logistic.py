"""A floor: logistic regression on the input.

D. R. Cox, "The regression analysis of binary sequences", Journal of the Royal Statistical Society B 20 (1958) 215-242.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.comparison.methods.floor import Features, FittedModel, Floor

# The strongest penalty first: among equals it is chosen.
INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
MOST_ITERATIONS = 200


class Logistic(Floor):
    """scikit-learn's multinomial logistic regression; the validation rows choose C."""

    def candidates(self) -> Sequence[Mapping[str, Any]]:
        """Return values of C, the inverse of the penalty of the squared weights."""
        return [{"C": value} for value in INVERSE_PENALTIES]

    def fit(self, features: Features, y: NDArray[np.int64], seed: int, **settings: Any) -> FittedModel:
        """Return the regression fitted by L-BFGS."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=MOST_ITERATIONS, **settings)
        with warnings.catch_warnings():
            # A fit that has not converged after so many steps is a candidate like the others.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted: FittedModel = model.fit(features, y)
        return fitted
