"""Initial weights of the network of eq. 11 that make it equal to the ridge readout."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.networks.readouts.mlp import MLPReadout
from rcdp_hpc.training.solve.ridge_fit import RidgeFit

# Lower bound of the scores' standard deviation, for a class whose ridge score is constant.
LEAST_DEVIATION = 1e-6


@torch.no_grad()
def warm_start(network: MLPReadout, fit: RidgeFit, factor: float) -> None:
    """Set the weights of a network so that its scores are those of the ridge readout times a factor, in both modes.

    Let z_k = w_k · s + b_k be the ridge score of class k, m_k and d_k its mean and standard deviation over the training
    rows, and a_k = (z_k - m_k) / d_k. The first components of o are ``w_k · s' / d_k``, with the standardised states s'
    (eq. 10). Two units of each ReLU layer have the values ReLU(a_k) and ReLU(-a_k), whose difference is a_k (eq. 11).
    The scores are f (m_k + d_k a_k), with the factor f. All other units keep their random weights, but have no
    connection to the scores yet.

    Parameters
    ----------
    network : MLPReadout
        Wide enough (`check_warm_start`), with its standardisation set.
    fit : RidgeFit
    factor : float
        f, the `warm_start_factor` of the loss.
    """
    if not isinstance(network.activation, nn.LeakyReLU):
        raise AssertionError("a warm start needs readout.activation = 'relu'")
    classes, slope = len(fit.means), 1 + network.activation.negative_slope
    weights, intercept = torch.from_numpy(fit.readout.weights.T.copy()), torch.from_numpy(fit.readout.intercept)
    means, deviations = torch.from_numpy(fit.means), torch.from_numpy(fit.deviations).clamp_min(LEAST_DEVIATION)
    # Maps a to the two units of each class. Its transpose maps them back, since f(a) - f(-a) = (1 + slope) a.
    pairs = torch.cat([torch.eye(classes), -torch.eye(classes)]).double()
    _set_first_rows(network.output_map, weights / network.state_scale.cpu() / deviations[:, None])
    _set_first_rows(network.inner, pairs)
    for layer, _ in network.relu_layers()[1:]:
        _set_first_rows(layer, pairs @ pairs.T / slope)
    _set_first_rows(network.scores, factor * deviations[:, None] * pairs.T / slope)
    network.scores.bias.copy_(factor * means)
    # Standardised states have mean 0; raw inputs are shifted by the same value for all features.
    centres = (means - intercept - weights @ network.state_mean.double().cpu()) / deviations
    network.inner_norm.running_mean[: 2 * classes] = (pairs @ centres).to(network.inner_norm.running_mean)


def _set_first_rows(layer: nn.Linear, values: torch.Tensor) -> None:
    """Set the first rows of a layer's weights to values, followed by zeros."""
    rows, columns = values.shape
    layer.weight[:rows] = 0
    layer.weight[:rows, :columns] = values.to(layer.weight)
