"""A trained extractor whose weights do not change any more."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rcdp_hpc.networks.base import SequenceModule
from rcdp_hpc.networks.end_to_end import normalised_channels


class FrozenExtractor(nn.Module):
    """The sequences T = E(x) (eq. 8) of a trained extractor E, of samples normalised as in its training.

    Batch normalisations use the statistics of its training. Its state has the names of `EndToEnd`, whose weights it is
    taken from.

    Parameters
    ----------
    extractor : SequenceModule
        E.
    sample_shape : sequence of int
        Shape of one sample.

    Attributes
    ----------
    steps, features : int
        Shape of a sequence.
    """

    input_mean: Tensor
    input_scale: Tensor

    def __init__(self, extractor: SequenceModule, sample_shape: Sequence[int]) -> None:
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.extractor = extractor
        self.steps, self.features = extractor.steps, extractor.features
        channels = self.sample_shape[2] if len(self.sample_shape) == 3 else 1
        self.register_buffer("input_mean", torch.zeros(channels))
        self.register_buffer("input_scale", torch.ones(channels))
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, samples: Tensor) -> Tensor:
        """Return the sequences (rows, steps, features) of samples (rows, *sample_shape)."""
        values = normalised_channels(samples.flatten(1), self.input_mean, self.input_scale)
        sequences: Tensor = self.extractor(values.view(len(samples), *self.sample_shape))
        return sequences


def frozen_state(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a `FrozenExtractor` from the weights of an `EndToEnd`."""
    names = ("input_mean", "input_scale")
    return {name: value for name, value in weights.items() if name in names or name.startswith("extractor.")}
