"""The network of eq. 11 begun as the ridge readout."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.networks.readouts.mlp import MLPReadout
from rcdp_hpc.training.solve.ridge_fit import RidgeFit

# Ridge scores lie around 0 and 1; so many times as large, a difference of 1/2 is a probability 150 times as high.
SHARPNESS = 10.0
# Of the scores of a class that the ridge readout never tells from others.
LEAST_DEVIATION = 1e-6


@torch.no_grad()
def warm_start(network: MLPReadout, fit: RidgeFit) -> None:
    """Let the network begin as the ridge readout: with ten times its scores, in training mode and out of it.

    With z_k = w_k · s + b_k the ridge's score of class k, and a_k = (z_k - m_k) / d_k, m_k and d_k its mean and
    deviation over the training rows: the first components of o are ``w_k · s' / d_k``, s' the standardised states
    (eq. 10), and two units of each layer of eq. 11 carry ReLU(a_k) and ReLU(-a_k), whose difference is a_k; so the
    scores are 10 (m_k + d_k a_k). All other units stay as they were drawn, but do not reach the scores yet.

    Parameters
    ----------
    network : ReadoutNetwork
        Wide enough (`check_warm_start`), its standardisation set.
    fit : RidgeFit
    """
    classes, slope = len(fit.means), 1 + network.relu.negative_slope
    weights, intercept = torch.from_numpy(fit.readout.weights.T.copy()), torch.from_numpy(fit.readout.intercept)
    means, deviations = torch.from_numpy(fit.means), torch.from_numpy(fit.deviations).clamp_min(LEAST_DEVIATION)
    # From a to the two units of each class; its transpose leads back, as f(a) - f(-a) = (1 + slope) a.
    pairs = torch.cat([torch.eye(classes), -torch.eye(classes)]).double()
    _begin_with(network.output_map, weights / network.state_scale.cpu() / deviations[:, None])
    _begin_with(network.inner, pairs)
    _begin_with(network.outer, pairs @ pairs.T / slope)
    _begin_with(network.scores, SHARPNESS * deviations[:, None] * pairs.T / slope)
    network.scores.bias.copy_(SHARPNESS * means)
    # Standardised states have the mean 0, but raw inputs are shifted by one value for all.
    centres = (means - intercept - weights @ network.state_mean.double().cpu()) / deviations
    network.inner_norm.running_mean[: 2 * classes] = (pairs @ centres).to(network.inner_norm.running_mean)


def _begin_with(layer: nn.Linear, values: torch.Tensor) -> None:
    """Put values into the first rows of a layer's weights, and zeros behind them."""
    rows, columns = values.shape
    layer.weight[:rows] = 0
    layer.weight[:rows, :columns] = values.to(layer.weight)
