"""The readout solved by ridge regression from sums over blocks of rows.

W = (Xc'Xc + alpha · n · I)^-1 · Xc'Yc,  b = mean(Y) - mean(X) · W, where Xc and Yc are centred and n is
the number of rows. The sums are formed in float64: a symmetric rank-k update of a float64 block costs as
much as a float32 product followed by a float64 addition, and leaves nothing to explain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from torch import Tensor

from rcdp_hpc.errors import CandidateError

ROWS_AT_ONCE = 4096


def one_hot(labels: Any, classes: int) -> NDArray[np.float32]:
    """Return the labels 0 .. classes - 1 as rows with a single 1, shape (N, classes), float32."""
    return np.eye(classes, dtype=np.float32)[np.asarray(labels, dtype=np.int64)]


@dataclass(frozen=True)
class RidgeReadout:
    """A linear readout.

    Attributes
    ----------
    weights : numpy.ndarray, shape (features, outputs), float64
    intercept : numpy.ndarray, shape (outputs,), float64
    """

    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def predict(self, features: Any) -> NDArray[np.float32]:
        """Return the scores of feature vectors, computed in float32.

        Parameters
        ----------
        features : torch.Tensor or numpy.ndarray, shape (N, features)

        Returns
        -------
        numpy.ndarray, shape (N, outputs), float32
        """
        features = torch.as_tensor(features)
        weights = torch.from_numpy(self.weights).to(features.device, torch.float32)
        intercept = torch.from_numpy(self.intercept).to(features.device, torch.float32)
        with torch.inference_mode():
            blocks = [torch.addmm(intercept, rows.float(), weights) for rows in features.split(ROWS_AT_ONCE)]
            return torch.cat(blocks).cpu().numpy()


class GramSums:
    """The sums that ridge regression needs, over any number of blocks of rows.

    The result depends on the blocks, their order and the thread count, and on nothing else: sums over the
    same blocks, or partial sums merged in the same order, are equal to the bit wherever they are formed.

    Parameters
    ----------
    features : int
        Length F of a feature vector.
    outputs : int
        Length K of a target vector.

    Attributes
    ----------
    rows : int
        Rows added so far.
    xx : numpy.ndarray, shape (F, F), float64
        Upper triangle of X'X; the lower one is not filled.
    xy : numpy.ndarray, shape (F, K), float64
        X'Y.
    x, y : numpy.ndarray, shape (F,) and (K,), float64
        Column sums.
    yy : numpy.ndarray, shape (K,), float64
        Column sums of Y².
    """

    def __init__(self, features: int, outputs: int) -> None:
        self.rows = 0
        try:
            self.xx = np.zeros((features, features), order="F")
        except MemoryError:
            raise CandidateError(
                f"ridge over {features} features needs {features**2 * 8 / 2**30:.1f} GiB for its sums, more "
                "than there is: lower reservoir.nodes or reservoir.states"
            ) from None
        self.xy = np.zeros((features, outputs))
        self.x, self.y = np.zeros(features), np.zeros(outputs)
        self.yy = np.zeros(outputs)

    def add(self, features: Any, targets: Any) -> None:
        """Add a block of rows.

        Parameters
        ----------
        features : torch.Tensor or numpy.ndarray, shape (rows, F)
            Of any float dtype, bfloat16 included.
        targets : torch.Tensor or numpy.ndarray, shape (rows, K)
        """
        block, wanted = _double(features), _double(targets)
        if block.shape != (len(wanted), self.x.size) or wanted.shape[1:] != self.y.shape:
            raise ValueError(
                f"features {block.shape} and targets {wanted.shape} do not fit sums over {self.x.size} "
                f"features and {self.y.size} outputs"
            )
        self.rows += len(block)
        self.xx = dsyrk(1.0, block.T, beta=1.0, c=self.xx, overwrite_c=1)
        self.xy += block.T @ wanted
        self.x += block.sum(axis=0)
        self.y += wanted.sum(axis=0)
        self.yy += np.square(wanted).sum(axis=0)

    def add_all(self, features: Any, targets: Any, batch_rows: int) -> None:
        """Add many rows in fixed blocks of `batch_rows`, the last one shorter."""
        for start in range(0, len(features), batch_rows):
            rows = slice(start, start + batch_rows)
            self.add(features[rows], targets[rows])

    def merge(self, other: GramSums) -> None:
        """Add the sums of other rows."""
        self.rows += other.rows
        for name in ("xx", "xy", "x", "y", "yy"):
            getattr(self, name).__iadd__(getattr(other, name))

    def mean_squared_error(self, readout: RidgeReadout) -> float:
        """Return the mean over rows and outputs of a readout's squared error on the rows added."""
        gram = self.xx + np.triu(self.xx, 1).T
        weights, intercept = readout.weights, readout.intercept
        squares = (weights * (gram @ weights)).sum(axis=0) + self.rows * intercept**2 + self.yy
        crossed = (weights * self.xy).sum(axis=0) + intercept * (self.y - self.x @ weights)
        return float((squares - 2 * crossed).sum() / (self.rows * self.y.size))


def solve(sums: GramSums, penalty_per_row: float) -> RidgeReadout:
    """Solve the ridge regression by Cholesky.

    Parameters
    ----------
    sums : GramSums
        At least one row; left as they are.
    penalty_per_row : float
        alpha of the module's formula, multiplied by the number of rows.

    Returns
    -------
    RidgeReadout

    Raises
    ------
    CandidateError
        If the sums are not finite, or not positive definite under this penalty.
    """
    if sums.rows == 0:
        raise ValueError("no rows were added")
    mean_x, mean_y = sums.x / sums.rows, sums.y / sums.rows
    gram = sums.xx - np.outer(sums.x, mean_x)
    gram[np.diag_indices_from(gram)] += penalty_per_row * sums.rows
    try:
        factor = scipy.linalg.cho_factor(gram, lower=False, overwrite_a=True)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise CandidateError(
            f"the ridge readout cannot be solved ({error}): raise search.ridge_penalty "
            f"= {penalty_per_row:g}, and see that the states are finite"
        ) from None
    weights = scipy.linalg.cho_solve(factor, sums.xy - np.outer(sums.x, mean_y))
    return RidgeReadout(weights, mean_y - mean_x @ weights)


def _double(values: Tensor | NDArray[Any]) -> NDArray[np.float64]:
    """Return the values as a float64 array in C order."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float64).contiguous().numpy()
    return np.ascontiguousarray(values, dtype=np.float64)
