"""Ridge readouts of the training parts of folds in the dual form, for fewer rows than features.

With sqrt(w)-scaled standardised features X and K = XX' of all rows, the readout of a training part t of total weight
W_t needs only the entries of K between its rows: with r the roots of its weights and P = I - rr' / W_t, which centres,

    a = (P · K_tt · P + alpha · W_t · I)^-1 · r (Y_t - mean(Y_t)),
    score of row i = mean(Y_t) + (K_it / sqrt(w_i) - r' K_tt / W_t) · a.

The scale of the features is that of all rows for every part, as in `rcdp_hpc.reservoir.left_out`. A part of n rows then
costs n³ / 3 products, where the sums of F features cost F³ / 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.left_out import products_of_rows
from rcdp_hpc.reservoir.ridge import one_hot


class DualParts:
    """Solves the readouts of parts of some rows, and scores other rows by them.

    Parameters
    ----------
    features : torch.Tensor or numpy.ndarray, shape (rows, F)
        Of more features than rows.
    labels : numpy.ndarray, shape (rows,)
    classes : int
    weights : array_like, shape (rows,), optional
        Above 0.

    Raises
    ------
    CandidateError
        If features are not finite.
    """

    def __init__(self, features: Any, labels: NDArray[np.integer], classes: int, weights: Any = None) -> None:
        self._products = products_of_rows(features, labels, classes, weights)
        self._roots = np.ones(len(labels)) if weights is None else np.sqrt(np.asarray(weights, dtype=np.float64))
        self._targets = one_hot(labels, classes).astype(np.float64)

    def shares(self, part: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weighted mean of the targets of a part, given by the indices of its rows; shape (classes,)."""
        weights = np.square(self._roots[part])
        return np.asarray(weights @ self._targets[part] / weights.sum())

    def scores(self, part: NDArray[np.int64], others: NDArray[np.int64], penalty: float) -> NDArray[np.float64]:
        """Return the scores of other rows by the readout of a part.

        Parameters
        ----------
        part, others : numpy.ndarray
            Indices of rows.
        penalty : float
            alpha, per row.

        Returns
        -------
        numpy.ndarray, shape (others, classes), float64

        Raises
        ------
        CandidateError
            If rounding errors exceed the penalty.
        """
        roots, means = self._roots[part], self.shares(part)
        total = roots @ roots
        gram = self._products[np.ix_(part, part)]
        projected = gram @ roots / total
        gram -= np.outer(roots, projected)
        gram -= np.outer(projected - roots * (roots @ projected / total), roots)
        gram[np.diag_indices_from(gram)] += penalty * total
        try:
            factor = scipy.linalg.cho_factor(gram, overwrite_a=True)
        except (np.linalg.LinAlgError, ValueError) as error:
            raise CandidateError(
                f"the ridge readout cannot be solved with a penalty of {penalty:g} ({error})"
            ) from None
        dual = scipy.linalg.cho_solve(factor, roots[:, None] * (self._targets[part] - means))
        crossed = self._products[np.ix_(others, part)] / self._roots[others, None]
        return np.asarray(means + crossed @ dual - projected @ dual)
