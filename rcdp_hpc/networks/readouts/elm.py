"""The network of a deep extreme learning machine, whose weights are solved."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.networks.losses import Loss
from rcdp_hpc.networks.readouts.activation import readout_activation
from rcdp_hpc.networks.readouts.base import Readout
from rcdp_hpc.networks.readouts.ridge import LEAST_SHARE
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.reservoir.reductions import FeatureShape


class Machine(nn.Module):
    """One deep extreme learning machine: solved layers ``X <- g(X beta')``, then linear scores.

    Parameters
    ----------
    inputs, width, layers, classes : int
        Features; units of each layer; number of layers; number of classes.

    Attributes
    ----------
    layers : ModuleList of nn.Linear
        The weight of a layer is its beta, shape (width, inputs of the layer).
    scores : nn.Linear
        From the deep features to one score for each class.
    """

    def __init__(self, inputs: int, width: int, layers: int, classes: int) -> None:
        super().__init__()
        sizes = [inputs, *[width] * (layers - 1)]
        self.layers = nn.ModuleList(nn.Linear(size, width, bias=False) for size in sizes)
        self.scores = nn.Linear(width, classes)

    def layer(self, number: int) -> nn.Linear:
        """Return a layer, from 0."""
        return cast(nn.Linear, self.layers[number])


class ELMReadout(Readout):
    """A deep extreme learning machine (``readout.kind = "elm"``).

    The features are standardised. Each layer is the result of an autoencoder (`rcdp_hpc.reservoir.autoencoder`): ``X <-
    g(X beta')``. The last layer z = W x + b is solved by ridge regression of one-hot classes. With ``bands`` =
    "separate" there is a machine for each frequency band of the features, and z is the mean of their scores. The scores
    are log(max(z, 1e-6)), so that their softmax is z without its negative entries, scaled to the sum 1.

    Reads ``layers``, ``hidden`` (units of each layer), ``activation`` (g), ``relu_slope`` and ``bands``; parameters as
    `Readout`.

    Attributes
    ----------
    bands : int
        Number of machines.
    band_features : int
        Features that a machine reads.
    """

    def __init__(
        self, settings: ReadoutSection, shape: FeatureShape, classes: int, parallel: Strategy | None = None
    ) -> None:
        super().__init__(settings, shape, classes, parallel)
        self.bands = shape.bands if settings.bands == "separate" else 1
        self.band_features = shape.features // self.bands
        self.activation = readout_activation(settings)
        self.machines = nn.ModuleList(
            Machine(self.band_features, settings.hidden, settings.layers, classes) for _ in range(self.bands)
        )

    def use_link(self, loss: Callable[[], Loss]) -> None:
        """Keep the softmax: the scores are logarithms of what the readout is solved for, whatever the loss."""

    def machine(self, band: int) -> Machine:
        """Return the machine of a band."""
        return cast(Machine, self.machines[band])

    def read(self, standard: torch.Tensor, rng: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised features (rows, features)."""
        return torch.log(self._linear_scores(standard).clamp_min(LEAST_SHARE))

    def scored(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities and z; as `Network.scored`."""
        z = self.linear_scores(features)
        return self.link(torch.log(z.clamp_min(LEAST_SHARE))), z

    def linear_scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return z, which approximates one-hot classes, shape (rows, classes), of features (rows, features)."""
        return self._linear_scores((features - self.state_mean) * self.state_scale)

    def layer_input(self, features: torch.Tensor, band: int, layer: int) -> torch.Tensor:
        """Return the input of a layer of the machine of a band, of features (rows, features).

        The input of the layer after the last one are the deep features, which the scores are computed from.
        """
        return self._layer_input((features - self.state_mean) * self.state_scale, band, layer)

    def shared_mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return values, each replaced by the mean over the inputs of its machine; as `Readout.shared_mean`."""
        return values.view(self.bands, -1).mean(1, keepdim=True).expand(-1, self.band_features).reshape(-1)

    def _linear_scores(self, standard: torch.Tensor) -> torch.Tensor:
        scores = [
            machine.scores(self._layer_input(standard, band, len(machine.layers)))
            for band, machine in ((band, self.machine(band)) for band in range(self.bands))
        ]
        return torch.stack(scores).mean(0)

    def _layer_input(self, standard: torch.Tensor, band: int, layer: int) -> torch.Tensor:
        first = band * self.band_features
        x = standard[:, first : first + self.band_features]
        machine = self.machine(band)
        for number in range(layer):
            x = self.activation(machine.layer(number)(x))
        return x
