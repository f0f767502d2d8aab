"""The frozen extractor of eq. 8: a dictionary of patches, learned without labels, whose codes drive the reservoir."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from rcdp_hpc.config import ExtractorSection, ReservoirSection
from rcdp_hpc.networks.learned_source import LearnedSource
from rcdp_hpc.networks.shapes import dictionary_map
from rcdp_hpc.reservoir.identity_source import IdentitySource
from rcdp_hpc.reservoir.kept_steps import check_length
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir

# Bytes of float32 that one map of codes may take: an image or a few, and some atoms, at once. What is done to each code
# then finds it in the core's own cache; beyond that, encoding takes 2 to 3 times as long. Other devices take more.
MAP_BYTES, DEVICE_MAP_BYTES = 2**19, 2**28
# Products with fewer atoms at once are slow.
LEAST_ATOMS = 64
# No code is farther from its channel's mean, in deviations: only channels that hardly ever move reach that, and
# sums over bounded values are the same bits for any number of ranks.
FARTHEST_CODE = 64.0


class PatchDictionary(nn.Module):
    """Codes of patches, pooled over regions (Coates and Ng, "The importance of encoding", 2011).

    A patch v of p · p · C values is normalised, ``n = (v - mean(v)) / sqrt(var(v) + e)``, and whitened, ``z = W (n -
    m)``, with m the mean and W the ZCA matrix of the patches learned from. Its code has two values for each atom d_k
    of unit length,

    ``f_k = max(0, d_k z - a),  f_(K+k) = max(0, -d_k z - a)``,

    a being the threshold. The map T in R^(2K x q x q) (eq. 8) is the mean of the codes over q x q regions, with
    ``mirror`` also over the image and its mirror image, raised to ``power``, each channel then brought to mean 0 and
    deviation 1. The sequence is of its rows or its positions, as of `ConvolutionExtractor`.

    With ``mirror`` an image and its mirror image have the same map, so that every readout gives both the same scores.
    A ridge readout of these maps is the one of twice as many maps over all images and their mirror images, the scores
    averaged over both: its weights are the same for an atom and the atom's mirror image.

    All that is linear is one product with ``W d_k`` less its mean; what is left is a factor for each patch.

    Parameters
    ----------
    settings : ExtractorSection
        ``patch`` p, ``atoms`` K, ``stride``, ``threshold`` a, ``pool`` q, ``mirror``, ``power``, ``sequence``,
        ``precision``.
    sample_shape : sequence of int
        (height, width) or (height, width, channels).

    Attributes
    ----------
    steps, features : int
        Of the sequences.

    Raises
    ------
    InputError
        If the samples are no images, or too small for the patches or the regions.
    """

    filters: Tensor
    offset: Tensor
    floor: Tensor
    code_mean: Tensor
    code_scale: Tensor

    def __init__(self, settings: ExtractorSection, sample_shape: Sequence[int]) -> None:
        super().__init__()
        self.settings, self.sample_shape = settings, tuple(sample_shape)
        height, width = dictionary_map(settings, self.sample_shape)
        channels, by_row = 2 * settings.atoms, settings.sequence == "rows"
        self.steps = settings.pool if by_row else settings.pool**2
        self.features = channels * (settings.pool if by_row else 1)
        self.places = height * width
        self.cut_work(MAP_BYTES)
        self.depth = self.sample_shape[2] if len(self.sample_shape) == 3 else 1
        self.register_buffer("filters", torch.zeros(settings.atoms, self.depth, settings.patch, settings.patch))
        self.register_buffer("offset", torch.zeros(settings.atoms))
        self.register_buffer("floor", torch.ones(()))
        self.register_buffer("code_mean", torch.zeros(channels))
        self.register_buffer("code_scale", torch.ones(channels))

    def cut_work(self, map_bytes: int) -> None:
        """Set how many images and atoms are worked on at once, so that their codes take about `map_bytes`."""
        atoms = max(LEAST_ATOMS, map_bytes // (4 * self.places))
        self.atoms_at_once = min(self.settings.atoms, atoms)
        self.rows_at_once = max(1, map_bytes // (4 * self.places * self.atoms_at_once))

    @torch.no_grad()
    def forward(self, samples: Tensor) -> Tensor:
        """Return the sequences (rows, steps, features), float32, of samples (rows, *sample_shape)."""
        images = self.images(samples)
        pool = self.settings.pool
        codes = torch.empty(len(images), 2 * self.settings.atoms, pool, pool, device=images.device)
        for start in range(0, len(images), self.rows_at_once):
            rows = slice(start, start + self.rows_at_once)
            codes[rows] = self.codes(images[rows])
        standard = (codes - self.code_mean[:, None, None]) * self.code_scale[:, None, None]
        standard.clamp_(-FARTHEST_CODE, FARTHEST_CODE)
        return standard.permute(0, 2, 3, 1).reshape(len(samples), self.steps, self.features)

    def images(self, samples: Tensor) -> Tensor:
        """Return samples (rows, *sample_shape) as images (rows, C, height, width)."""
        return samples.view(len(samples), *self.sample_shape[:2], self.depth).permute(0, 3, 1, 2)

    def codes(self, images: Tensor) -> Tensor:
        """Return the pooled codes (rows, 2K, q, q), not yet standardised, of images (rows, C, height, width)."""
        found = self._codes(images)
        if self.settings.mirror:
            found = (found + self._codes(images.flip(3))) / 2
        return found if self.settings.power == 1 else found.pow_(self.settings.power)

    def _codes(self, images: Tensor) -> Tensor:
        """Return the pooled codes of images as they are."""
        settings, rows = self.settings, len(images)
        dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        places, patches = self._patches(images)
        patches = patches.to(dtype)
        codes = torch.empty(rows, 2, settings.atoms, settings.pool, settings.pool, device=images.device)

        def pooled(values: Tensor) -> Tensor:
            maps = values.view(rows, *places, -1).permute(0, 3, 1, 2)
            return functional.adaptive_avg_pool2d(maps, settings.pool).float()

        for start in range(0, settings.atoms, self.atoms_at_once):
            atoms = slice(start, start + self.atoms_at_once)
            filters = self.filters[atoms].flatten(1).to(dtype)
            beyond = torch.addmm((self.offset[atoms] - settings.threshold).to(dtype), patches, filters.T)
            codes[:, 0, atoms] = pooled(beyond.clamp_min(0))
            codes[:, 1, atoms] = pooled(beyond.add_(2 * settings.threshold).clamp_max_(0)).neg_()
        return codes.flatten(1, 2)

    def _patches(self, images: Tensor) -> tuple[tuple[int, int], Tensor]:
        """Return height and width of the map, and patches (rows · height · width, C · p · p) times their factors."""
        # The filters sum to 0: taking the mean of each image away changes nothing, and 16 bits then lose less.
        images = images - images.mean((1, 2, 3), keepdim=True)
        factor = self._factor(images)
        patches = functional.unfold(images, self.settings.patch, stride=self.settings.stride) * factor.flatten(2)
        return (factor.shape[2], factor.shape[3]), patches.transpose(1, 2).flatten(0, 1)

    def _factor(self, images: Tensor) -> Tensor:
        """Return 1 / sqrt(var + e) of each patch of images of mean 0, shape (rows, 1, height, width) of the map."""

        def means(x: Tensor) -> Tensor:
            return functional.avg_pool2d(x, self.settings.patch, self.settings.stride).mean(1, keepdim=True)

        mean = means(images)
        return torch.rsqrt((means(images * images) - mean * mean).clamp_min(0) + self.floor)


class DictionarySource(LearnedSource):
    """A reservoir that reads what a `PatchDictionary` makes of samples; without a reservoir, its sequences themselves.

    The dictionary does not change, so that states are computed once and kept, as those of samples cut by themselves.

    Parameters
    ----------
    settings : ReservoirSection
        Its kernel ``auto`` is dense-fp32 here: how samples are cut says nothing of what the dictionary makes of them.
    extractor : ExtractorSection
    sample_shape : sequence of int
    device : torch.device

    Attributes
    ----------
    dictionary, learned : PatchDictionary
        Its values are zeros until they are learned or loaded.
    feature_shape, width, batch_rows, dtype, device, kernel, sequencer
        As of `rcdp_hpc.reservoir.identity_source.StateSource`.
    """

    def __init__(
        self, settings: ReservoirSection, extractor: ExtractorSection, sample_shape: Sequence[int], device: torch.device
    ) -> None:
        self.settings, self.device, self.sequencer = settings, device, Sequencer()
        self.dictionary = self.learned = PatchDictionary(extractor, sample_shape).to(device)
        if device.type != "cpu":
            self.dictionary.cut_work(DEVICE_MAP_BYTES)
        steps, features = self.dictionary.steps, self.dictionary.features
        self.inner: Reservoir | IdentitySource
        if settings.kind == "none":
            self.inner = IdentitySource(settings, Sequencer(), (steps, features), device)
        else:
            check_length(settings, steps)
            kernel = "dense-fp32" if settings.kernel == "auto" else settings.kernel
            self.inner = Reservoir(settings, features, kernel, device, steps=steps)
        inner = self.inner
        self.feature_shape, self.width, self.batch_rows = inner.feature_shape, inner.width, inner.batch_rows
        self.dtype, self.kernel = inner.dtype, inner.kernel

    def drive(self, x: Any, lengths: ArrayLike | None = None, out: Tensor | None = None, noisy: bool = False) -> Tensor:
        """Return what is kept of the states of samples (rows, *sample_shape); parameters as `Reservoir.drive`."""
        samples = torch.as_tensor(np.asarray(x)).to(self.device, torch.float32)
        return self.inner.states(self.dictionary(samples), out, noisy=noisy)

    def states(self, u: Any, out: Tensor | None = None) -> Tensor:
        """Return the same of samples that are cut by rows, (rows, height, width · channels)."""
        return self.drive(u, out=out)
