"""Extractor, reservoir and readout as one network, trained end to end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.config import AugmentSection
from rcdp_hpc.networks.augment import augment, augment_draws, views_of
from rcdp_hpc.networks.base import Network, SequenceModule
from rcdp_hpc.networks.readouts.base import LEAST_DEVIATION
from rcdp_hpc.networks.sample_rng import Draw, SampleRng
from rcdp_hpc.networks.shapes import check_augment
from rcdp_hpc.reservoir.gradient import DifferentiableReservoir


class EndToEnd(Network):
    """Class scores from samples: T = E(x) (eq. 8), s = the fixed reservoir driven by T (eq. 9), scores = R(s).

    E and R are trained. Gradients flow through the reservoir, whose matrices are constants and not part of the weights.
    Samples are normalised first: each channel by its mean and standard deviation over the training rows.

    Parameters
    ----------
    sample_shape : sequence of int
        Shape of one sample.
    extractor : SequenceModule
        E.
    reservoir : DifferentiableReservoir or None
        With None, the readout reads the sequences themselves.
    readout : Network
        R.
    changes : AugmentSection
        Random changes of training samples, and the views of a sample over which predictions are averaged.

    Raises
    ------
    InputError
        If the samples are not images, but `changes` needs images.
    """

    input_mean: torch.Tensor
    input_scale: torch.Tensor

    def __init__(
        self,
        sample_shape: Sequence[int],
        extractor: SequenceModule,
        reservoir: DifferentiableReservoir | None,
        readout: Network,
        changes: AugmentSection,
    ) -> None:
        super().__init__()
        if changes.changes or changes.several_views:
            check_augment(changes, sample_shape)
        self.sample_shape = tuple(sample_shape)
        self.changes = changes
        self.extractor = extractor
        self.reservoir = reservoir
        self.readout = readout
        channels = self.sample_shape[2] if len(self.sample_shape) == 3 else 1
        self.register_buffer("input_mean", torch.zeros(channels))
        self.register_buffer("input_scale", torch.ones(channels))

    def forward(self, features: torch.Tensor, rng: SampleRng | None = None) -> torch.Tensor:
        """Return class scores (rows, classes) of flat samples (rows, values).

        In training, `rng` changes the images and drops units.
        """
        x = self._normalised(features)
        if self.training and rng is not None and self.changes.changes:
            x = augment(x, self.changes, rng)
        sequences = self.extractor(x)
        states = sequences.flatten(1) if self.reservoir is None else self.reservoir(sequences)
        scores: torch.Tensor = self.readout(states, rng)
        return scores

    def random_draws(self) -> Sequence[Draw]:
        """Return the numbers of the changes of images and of the readout; as `Network.random_draws`."""
        return [*augment_draws(self.changes), *self.readout.random_draws()]

    def link(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the probabilities that scores of the readout stand for; parameters as `Network.link`."""
        return self.readout.link(scores)

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Return the class probabilities of flat samples, averaged over their `views_of`."""
        views = [(1.0, features)]
        if self.changes.several_views:
            views = views_of(features.view(len(features), *self.sample_shape), self.changes)
        weighted = [weight * self.link(self(view.reshape(features.shape)).float()) for weight, view in views]
        return torch.stack(weighted).sum(0)

    def _normalised(self, samples: torch.Tensor) -> torch.Tensor:
        """Return flat samples normalised by channel, shape (rows, *sample_shape)."""
        return normalised_channels(samples, self.input_mean, self.input_scale).view(len(samples), *self.sample_shape)

    def standardise(self, sums: torch.Tensor, squares: torch.Tensor, rows: float) -> None:
        """Set the normalisation of the samples; parameters as `Network.standardise`, by value of a sample."""
        channels = len(self.input_mean)
        mean = (sums / rows).view(-1, channels).mean(0)
        square = (squares / rows).view(-1, channels).mean(0)
        self.input_mean.copy_(mean.float())
        self.input_scale.copy_((1 / ((square - mean * mean).clamp_min(0).sqrt() + LEAST_DEVIATION)).float())

    def fit_patches(
        self, blocks: Iterable[torch.Tensor], add: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> None:
        """Fit the layers of the extractor that gradients do not train; parameters as `Network.fit_patches`."""
        self.extractor.fit_patches((self._normalised(block.float()) for block in blocks), add)

    def watch_sequences(self, asked: Callable[[], bool], take: Callable[[torch.Tensor], None]) -> int:
        """Report the gradient of the sequences of the extractor; parameters as `Network.watch_sequences`."""

        def hook(_: nn.Module, inputs: tuple[Any, ...], sequences: torch.Tensor) -> None:
            if asked():
                sequences.register_hook(take)

        self.extractor.register_forward_hook(hook)
        return self.extractor.steps


def normalised_channels(samples: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return flat samples (rows, values), the last axis of which are channels, as (x - mean) * scale by channel."""
    channels = len(mean)
    x = samples.view(len(samples), samples.shape[1] // channels, channels)
    return ((x - mean) * scale).view(samples.shape)
