"""A fixed extractor of eq. 8: a dictionary of image patches, learned without labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rcdp_hpc.config import ExtractorSection
from rcdp_hpc.networks.shapes import FARTHEST_CODE, dictionary_map, sequence_of_map

# Bytes of float32 codes that are computed at once, for a few images and some of the atoms: they fit in the cache of a
# core. With more, encoding takes 2 to 3 times as long.
MAP_BYTES = 2**19
# Matrix products with fewer atoms are slow.
LEAST_ATOMS = 64


class PatchDictionary(nn.Module):
    """Codes of patches, pooled over regions (Coates and Ng, "The importance of encoding", 2011).

    A patch v of p · p · C values is normalised, ``n = (v - mean(v)) / sqrt(var(v) + e)``, and whitened, ``z = W (n -
    m)``, with m the mean and W the ZCA matrix of the patches that the dictionary was learned from. Its code has two
    values for each atom d_k of unit length, with the threshold a:

    ``f_k = max(0, d_k z - a),  f_(K+k) = max(0, -d_k z - a)``

    The map T in R^(2K x q x q) (eq. 8) is the mean of the codes over q x q regions; with ``mirror``, also over the
    image and its mirror image. It is raised to ``power``, and each channel is then scaled to mean 0 and standard
    deviation 1. The map is read as a sequence of rows or of positions, as that of `Convolutions`.

    With ``mirror`` an image and its mirror image have the same map, so that every readout gives them the same scores. A
    ridge readout of these maps equals one of maps with twice the atoms, fitted to all images and their mirror images,
    with scores averaged over both: its weights are the same for an atom and for the mirror image of the atom.

    All linear operations are one product with ``W d_k`` minus its mean; only a factor for each patch remains.

    Parameters
    ----------
    settings : ExtractorSection
        The keys ``patch`` (p), ``atoms`` (K), ``stride``, ``threshold`` (a), ``pool`` (q), ``mirror``, ``power``,
        ``sequence`` and ``precision`` are used.
    sample_shape : sequence of int
        (height, width) or (height, width, channels).

    Attributes
    ----------
    steps, features : int
        Shape of a sequence.

    Raises
    ------
    InputError
        If the samples are not images, or too small for the patches or the regions.
    """

    filters: Tensor
    offset: Tensor
    floor: Tensor
    code_mean: Tensor
    code_scale: Tensor

    def __init__(self, settings: ExtractorSection, sample_shape: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        self.sample_shape = tuple(sample_shape)
        height, width = dictionary_map(settings, self.sample_shape)
        channels = 2 * settings.atoms
        self.steps, self.features = sequence_of_map(settings.sequence, channels, settings.pool, settings.pool)
        self.positions = height * width
        self.cut_work(MAP_BYTES)
        self.depth = self.sample_shape[2] if len(self.sample_shape) == 3 else 1
        self.register_buffer("filters", torch.zeros(settings.atoms, self.depth, settings.patch, settings.patch))
        self.register_buffer("offset", torch.zeros(settings.atoms))
        self.register_buffer("floor", torch.ones(()))
        self.register_buffer("code_mean", torch.zeros(channels))
        self.register_buffer("code_scale", torch.ones(channels))

    def cut_work(self, map_bytes: int) -> None:
        """Set the numbers of images and atoms that are encoded at once, so that their codes take about `map_bytes`."""
        atoms = max(LEAST_ATOMS, map_bytes // (4 * self.positions))
        self.atoms_at_once = min(self.settings.atoms, atoms)
        self.rows_at_once = max(1, map_bytes // (4 * self.positions * self.atoms_at_once))

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
        """Return the pooled codes (rows, 2K, q, q) of images (rows, C, height, width), before standardisation."""
        codes = self._codes(images)
        if self.settings.mirror:
            codes = (codes + self._codes(images.flip(3))) / 2
        return codes if self.settings.power == 1 else codes.pow_(self.settings.power)

    def _codes(self, images: Tensor) -> Tensor:
        """Return the pooled codes of images, without their mirror images and without the power."""
        settings, rows = self.settings, len(images)
        dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        map_shape, patches = self._patches(images)
        patches = patches.to(dtype)
        codes = torch.empty(rows, 2, settings.atoms, settings.pool, settings.pool, device=images.device)

        def pooled(values: Tensor) -> Tensor:
            maps = values.view(rows, *map_shape, -1).permute(0, 3, 1, 2)
            return functional.adaptive_avg_pool2d(maps, settings.pool).float()

        for start in range(0, settings.atoms, self.atoms_at_once):
            atoms = slice(start, start + self.atoms_at_once)
            filters = self.filters[atoms].flatten(1).to(dtype)
            projections = torch.addmm((self.offset[atoms] - settings.threshold).to(dtype), patches, filters.T)
            codes[:, 0, atoms] = pooled(projections.clamp_min(0))
            codes[:, 1, atoms] = pooled(projections.add_(2 * settings.threshold).clamp_max_(0)).neg_()
        return codes.flatten(1, 2)

    def _patches(self, images: Tensor) -> tuple[tuple[int, int], Tensor]:
        """Return the shape of the map, and patches (rows · height · width, C · p · p) times their factors."""
        # The filters sum to 0, so subtracting the mean of each image changes nothing, but 16 bits then lose less.
        images = images - images.mean((1, 2, 3), keepdim=True)
        factor = self._factor(images)
        patches = functional.unfold(images, self.settings.patch, stride=self.settings.stride) * factor.flatten(2)
        return (factor.shape[2], factor.shape[3]), patches.transpose(1, 2).flatten(0, 1)

    def _factor(self, images: Tensor) -> Tensor:
        """Return 1 / sqrt(var + e) of each patch of images with mean 0, shape (rows, 1, height, width) of the map."""

        def means(x: Tensor) -> Tensor:
            return functional.avg_pool2d(x, self.settings.patch, self.settings.stride).mean(1, keepdim=True)

        mean = means(images)
        return torch.rsqrt((means(images * images) - mean * mean).clamp_min(0) + self.floor)
