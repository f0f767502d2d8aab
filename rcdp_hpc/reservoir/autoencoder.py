"""Autoencoders of extreme learning machines: a random layer, and output weights that are solved.

With rows X (n, d), a random matrix A (d, L) and a random bias b (L,),

    H = g(X A + b),    beta = (H'H + I / C)^-1 H'X,    and the layer's result is g(X beta').

The columns of A are orthonormal, A'A = I; if the layer is wider than its input, the rows are, AA' = I. b has length 1.
H'H and H'X are sums over rows, so that beta follows from `rcdp_hpc.reservoir.gram.GramSums` without gradients.

References
----------
L. L. C. Kasun, H. Zhou, G.-B. Huang, C. M. Vong, "Representational learning with extreme learning machine for big
data", IEEE Intelligent Systems 28(6), 2013, 31-34: A, b, beta and the stack of layers (ELM-AE and ML-ELM).

J. Tang, C. Deng, G.-B. Huang, "Extreme learning machine for multilayer perceptron", IEEE Transactions on Neural
Networks and Learning Systems 27(4), 2016, 809-821: layers without fine-tuning, and a last layer of its own.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.device_ridge import cholesky_solution
from rcdp_hpc.reservoir.device_sums import DeviceSums
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.random_streams import Part, distributed, stream, symmetric


def random_layer(inputs: int, width: int, seed: int, part: Part) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the random weights A and the bias b of an autoencoder.

    A is the orthogonal factor of a matrix of normal numbers, with a positive diagonal of the other factor, so that it
    is uniformly distributed over all such matrices.

    Parameters
    ----------
    inputs, width : int
        d and L.
    seed : int
        The setting ``run.seed``.
    part : tuple of int
        Which of several layers with this seed.

    Returns
    -------
    weights : numpy.ndarray, shape (inputs, width), float64
        A'A = I if `width` is at most `inputs`, otherwise AA' = I.
    bias : numpy.ndarray, shape (width,), float64
        Of length 1.
    """
    long, short = max(inputs, width), min(inputs, width)
    numbers = distributed(symmetric(stream("autoencoder", seed, part), long * short), "normal")
    orthogonal, triangle = scipy.linalg.qr(numbers.reshape(short, long).T, mode="economic", overwrite_a=True)
    orthogonal *= np.where(np.diag(triangle) < 0, -1.0, 1.0)
    bias = distributed(symmetric(stream("autoencoder_bias", seed, part), width), "normal")
    weights = orthogonal if width <= inputs else orthogonal.T
    return np.ascontiguousarray(weights), bias / np.linalg.norm(bias)


def solve_autoencoder(sums: GramSums | DeviceSums, penalty: float) -> NDArray[np.float64]:
    """Return the output weights beta = (H'H + I / C)^-1 H'X of an autoencoder, by Cholesky on the device of the sums.

    Parameters
    ----------
    sums : GramSums or DeviceSums
        Sums of the hidden values H as features and the inputs X as targets; they stay unchanged.
    penalty : float
        C. It is not multiplied by the number of rows, as published.

    Returns
    -------
    numpy.ndarray, shape (width, inputs), float64

    Raises
    ------
    CandidateError
        If the sums are not finite, or not positive definite with this penalty.
    """
    sums.flush()
    try:
        return _solved_on_device(sums, penalty) if isinstance(sums, DeviceSums) else _solved(sums, penalty)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise CandidateError(
            f"an autoencoder of {sums.x.size} units cannot be solved with readout.elm_penalty = {penalty:g} ({error}): "
            "set a smaller one, and check that the states are finite"
        ) from None


def _solved(sums: GramSums, penalty: float) -> NDArray[np.float64]:
    gram = sums.xx.copy(order="F")
    gram[np.diag_indices_from(gram)] += 1 / penalty
    factor = scipy.linalg.cho_factor(gram, lower=False, overwrite_a=True)
    return np.asarray(scipy.linalg.cho_solve(factor, sums.xy))


def _solved_on_device(sums: DeviceSums, penalty: float) -> NDArray[np.float64]:
    gram = sums.device_xx.clone()
    gram.diagonal().add_(1 / penalty)
    return np.asarray(cholesky_solution(gram, sums.device_xy).cpu().numpy())
