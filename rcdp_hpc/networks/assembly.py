"""Extractor, reservoir and readout put together as the configuration names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.config import Config, ExtractorSection
from rcdp_hpc.networks.augment import augment, views_of
from rcdp_hpc.networks.base import LEAST_DEVIATION, Readout
from rcdp_hpc.networks.dictionary import DictionarySource
from rcdp_hpc.networks.extractor import ConvolutionExtractor, maps_of
from rcdp_hpc.networks.kernels import KernelSource
from rcdp_hpc.networks.registry import build_readout
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.networks.shapes import check_augment
from rcdp_hpc.networks.user import UserExtractor
from rcdp_hpc.networks.whitening import PatchWhitening
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.gradient import DifferentiableReservoir
from rcdp_hpc.reservoir.identity_source import IdentitySource, StateSource, make_reservoir
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir


class EndToEnd(nn.Module):
    """Class scores from samples: T = E(x) (eq. 8), s = the frozen reservoir driven by T (eq. 9), scores = R(s).

    E and R are trained; gradients flow through the reservoir, whose matrices are constants and no part of the weights.
    Samples are normalised first, each channel by its mean and deviation over the training rows.

    Parameters
    ----------
    sample_shape : sequence of int
        Shape of one sample.
    extractor : nn.Module
        Gives sequences (rows, steps, features) of samples.
    reservoir : DifferentiableReservoir or None
        None hands the sequences on to the readout.
    readout : Readout
    config : Config
        How training samples are changed at random, and whether predictions are averaged over mirror images.
    """

    input_mean: torch.Tensor
    input_scale: torch.Tensor

    def __init__(
        self,
        sample_shape: Sequence[int],
        extractor: nn.Module,
        reservoir: DifferentiableReservoir | None,
        readout: Readout,
        config: Config,
    ) -> None:
        super().__init__()
        if config.augment.changes or config.augment.several_views:
            check_augment(config.augment, sample_shape)
        self.sample_shape, self.config = tuple(sample_shape), config
        self.extractor, self.reservoir, self.readout = extractor, reservoir, readout
        channels = self.sample_shape[2] if len(self.sample_shape) == 3 else 1
        self.register_buffer("input_mean", torch.zeros(channels))
        self.register_buffer("input_scale", torch.ones(channels))

    def forward(self, samples: torch.Tensor, draw: SampleRng | None = None) -> torch.Tensor:
        """Return class scores (rows, classes) of flat samples (rows, values); `draw` changes them and drops units."""
        x = self._normalised(samples)
        if self.training and draw is not None and self.config.augment.changes:
            x = augment(x, self.config.augment, draw)
        return self._scores(x, draw)

    def probabilities(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the class probabilities of flat samples, averaged over their `views_of`."""
        views = [(1.0, samples)]
        if self.config.augment.several_views:
            views = views_of(samples.view(len(samples), *self.sample_shape), self.config.augment)
        found = [weight * torch.softmax(self(view.reshape(samples.shape)).float(), 1) for weight, view in views]
        return torch.stack(found).sum(0)

    def _normalised(self, samples: torch.Tensor) -> torch.Tensor:
        """Return flat samples normalised by channel, shape (rows, *sample_shape)."""
        channels = len(self.input_mean)
        x = samples.view(len(samples), samples.shape[1] // channels, channels)
        return ((x - self.input_mean) * self.input_scale).view(len(samples), *self.sample_shape)

    def fit_patches(
        self, blocks: Iterable[torch.Tensor], add: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> None:
        """Fix the whitening of image patches, where the extractor has one. Collective.

        Parameters
        ----------
        blocks : iterable of torch.Tensor, shape (rows, values)
            This rank's training samples.
        add : callable
            Adds up an array over ranks.
        """
        whitening = getattr(self.extractor, "whitening", None)
        if not isinstance(whitening, PatchWhitening):
            return
        moments = whitening.no_moments()
        for block in blocks:
            moments += whitening.moments(maps_of(self._normalised(block.float())))
        whitening.fit(torch.from_numpy(add(moments.cpu().numpy())))

    def _scores(self, x: torch.Tensor, draw: SampleRng | None) -> torch.Tensor:
        sequences = self.extractor(x)
        kept = sequences.flatten(1) if self.reservoir is None else self.reservoir(sequences)
        scores: torch.Tensor = self.readout(kept, draw)
        return scores

    def standardise(self, sums: torch.Tensor, squares: torch.Tensor, rows: int) -> None:
        """Fix the normalisation of the samples; parameters as `Readout.standardise`, by value of a sample."""
        channels = len(self.input_mean)
        mean = (sums / rows).view(-1, channels).mean(0)
        square = (squares / rows).view(-1, channels).mean(0)
        self.input_mean.copy_(mean.float())
        self.input_scale.copy_((1 / ((square - mean * mean).clamp_min(0).sqrt() + LEAST_DEVIATION)).float())


def make_source(
    config: Config,
    sample_shape: Sequence[int],
    device: torch.device,
    matrices: ReservoirMatrices | None = None,
) -> StateSource:
    """Return what the rows that are kept for training come from.

    States where nothing in front of the readout is trained, and otherwise the samples themselves. What a frozen
    extractor learns has still to be learned or loaded.

    Raises
    ------
    InputError
        If the reservoir or the dictionary has no use for such samples.
    """
    if config.extractor.trained:
        # The extractor reads the samples themselves; only what it makes of them drives the config.reservoir.
        untouched = config.reservoir.model_copy(update={"series_scaling": "none", "differences": False})
        return IdentitySource(untouched, Sequencer(), sample_shape, device)
    if config.extractor.kind == "dictionary":
        return DictionarySource(config.reservoir, config.extractor, sample_shape, device)
    if config.extractor.kind == "kernels":
        return KernelSource(config.reservoir, config.extractor, sample_shape, device, matrices)
    return make_reservoir(config.reservoir, sample_shape, device, matrices)


def build_network(
    config: Config,
    sample_shape: Sequence[int],
    source: StateSource,
    classes: int,
    seed: int,
    parallel: SingleProcessEngine | None = None,
) -> Readout | EndToEnd:
    """Return the network that is trained on what `source` gives.

    Parameters
    ----------
    config.config : Config
        Its sections extractor, reservoir, readout and augment.
    sample_shape : sequence of int
        Shape of one sample.
    source : StateSource
        As `make_source` returns it; the network is put on its device.
    classes, seed : int
        Number of classes; what the initial weights depend on, and nothing else.
    parallel : Alone, optional
        How batch statistics are summed over ranks; default: one process.

    Raises
    ------
    InputError
        If the extractor has no use for such samples.
    """
    if not config.extractor.trained:
        return build_readout(config, source.feature_shape, classes, seed, parallel).to(source.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        extractor = make_extractor(config.extractor, sample_shape, parallel)
    steps, features = extractor.steps, extractor.features
    kept, frozen = FeatureShape(1, steps, features, raw=True), None
    if config.reservoir.kind != "none":
        engine = Reservoir(config.reservoir, features, "dense-fp32", source.device, steps=steps)
        kept, frozen = engine.feature_shape, DifferentiableReservoir(engine)
    readout = build_readout(config, kept, classes, seed, parallel)
    return EndToEnd(sample_shape, extractor, frozen, readout, config).to(source.device)


def make_extractor(
    settings: ExtractorSection, sample_shape: Sequence[int], parallel: SingleProcessEngine | None
) -> ConvolutionExtractor | UserExtractor:
    """Return the trained extractor that the settings name; parameters and errors as `build_network`."""
    if ":" in settings.kind:
        return UserExtractor(settings.kind, sample_shape, parallel)
    return ConvolutionExtractor(
        sample_shape, settings.channels, settings.residual, settings.sequence, parallel, settings.activation,
        settings.whitening,
    )  # fmt: skip
