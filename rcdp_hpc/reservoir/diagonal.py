"""The matrices of a reservoir of kind "diagonal", whose memory units are not connected, with NumPy and SciPy only.

M damped oscillators h, each with its own decay r and frequency theta, remember the input linearly. One random layer
reads all of them:

h_t = r · exp(i · theta) ∘ h_(t-1) + W_in · u_t,   s_t = (1 - a) · s_(t-1) + a · f(W_mix · [Re h_t, Im h_t] + b_in)

A step costs nodes · 2M multiplications instead of nodes², so that 100,000 nodes are feasible. This is a layer of
ParalESN (arXiv 2601.22296) without its convolution, and with the leak a of eq. 9.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import ReservoirMatrices, biases, check_feature_scaling
from rcdp_hpc.reservoir.random_streams import Part, distributed, stream, symmetric


def diagonal_matrices(settings: ReservoirSection, features: int, part: Part = ()) -> ReservoirMatrices:
    """Draw the parameters of a diagonal reservoir.

    Parameters
    ----------
    settings : ReservoirSection
        Uses nodes, memory_units, memory_steps, input_scaling, feature_scaling, bias_scaling and seed.
    features : int
        Features per step of the input sequence.
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first one.

    Returns
    -------
    ReservoirMatrices
        `recurrent`, shape (2M, 2M), rotates and shrinks the pairs (Re h_j, Im h_j). `input`, shape (2M, features), is 0
        for the imaginary half. `mixing` is W_mix.

    Raises
    ------
    InputError
        If ``feature_scaling`` does not have one factor per feature.

    Notes
    -----
    Time constants tau are log-uniform over memory_steps, r = exp(-1 / tau), frequencies uniform in [0, pi). W_in is
    normal with standard deviation input_scaling · sqrt((1 - r²) / features): for inputs of standard deviation 1 that
    are independent between steps, the argument of f has standard deviation input_scaling. W_mix is normal with standard
    deviation 1 / sqrt(M).
    """
    check_feature_scaling(settings, features)
    units = settings.memory_units
    decay, angle = _oscillators(settings, part)
    drawn = distributed(symmetric(stream("input", settings.seed, part), units * features), "normal")
    weights = drawn.reshape(units, features) * np.sqrt((1 - decay**2) / features)[:, None] * settings.input_scaling
    if settings.feature_scaling:
        weights = weights * np.array(settings.feature_scaling)
    mixing = distributed(symmetric(stream("mixing", settings.seed, part), settings.nodes * 2 * units), "normal")
    return ReservoirMatrices(
        _rotation(decay, angle),
        np.vstack([weights, np.zeros_like(weights)]),
        biases(settings.nodes, settings.bias_scaling, settings.seed, part),
        mixing.reshape(settings.nodes, 2 * units) / np.sqrt(units),
    )


def _oscillators(settings: ReservoirSection, part: Part) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return decays r and frequencies theta, both of shape (memory_units,)."""
    shares = (symmetric(stream("memory", settings.seed, part), 2 * settings.memory_units) + 1) / 2
    shortest, longest = settings.memory_steps
    steps = shortest * (longest / shortest) ** shares[: settings.memory_units]
    return np.exp(-1 / steps), np.pi * shares[settings.memory_units :]


def _rotation(decay: NDArray[np.float64], angle: NDArray[np.float64]) -> scipy.sparse.csr_array:
    """Return [[cos, -sin], [sin, cos]] of all oscillators, multiplied by their decays."""
    along, across = scipy.sparse.diags_array(decay * np.cos(angle)), scipy.sparse.diags_array(decay * np.sin(angle))
    return scipy.sparse.csr_array(scipy.sparse.block_array([[along, -across], [across, along]]))
