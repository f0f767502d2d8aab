"""The frozen extractor of eq. 8: a dictionary of patches, learned without labels, whose codes drive the reservoir."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rcdp_hpc.config import ExtractorSection
from rcdp_hpc.networks.shapes import FARTHEST_CODE, dictionary_map, sequence_of_map

# Bytes of float32 that one map of codes may take: an image or a few, and some atoms, at once. What is done to each code
# then finds it in the core's own cache; beyond that, encoding takes 2 to 3 times as long. Other devices take more.
MAP_BYTES, DEVICE_MAP_BYTES = 2**19, 2**28
# Products with fewer atoms at once are slow.
LEAST_ATOMS = 64


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
        channels = 2 * settings.atoms
        self.steps, self.features = sequence_of_map(settings.sequence, channels, settings.pool, settings.pool)
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
