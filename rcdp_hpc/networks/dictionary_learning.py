"""Learning of a dictionary of patches without labels: normalisation, ZCA whitening and spherical k-means."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from rcdp_hpc.config import ExtractorSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.dictionary import PatchDictionary

# Added to the variance of a patch, as a fraction of the mean variance, so that patches of nearly one colour do not
# become noise. Coates and Ng add 10 for bytes, which is about the same.
VARIANCE_FLOOR = 0.005
# Added to the eigenvalues of the covariance; the values of a normalised patch have a variance of about 1.
EIGENVALUE_FLOOR = 0.1
# Images from which means and scales of the channels are computed; this number gives them to a few percent.
CODED_IMAGES = 1000
ITERATIONS = 10
BLOCK = 4096


@torch.no_grad()
def learn(dictionary: PatchDictionary, samples: Tensor, seed: int) -> None:
    """Learn a dictionary from samples.

    Call it with one thread: k-means depends on every rounding, and the order of sums on the number of threads.

    Parameters
    ----------
    dictionary : PatchDictionary
        A dictionary on the CPU; its values are overwritten.
    samples : torch.Tensor, shape (rows, *sample_shape), float32
        Training rows.
    seed : int
        Seed of the positions of the patches, and of the first atoms.

    Raises
    ------
    InputError
        If a value of the patches is not finite.
    """
    settings = dictionary.settings
    generator = torch.Generator().manual_seed(seed)
    images = dictionary.images(samples)
    patches = cut_patches(images, settings.patch, settings.patches, generator)
    if not torch.isfinite(patches).all():
        raise InputError("extractor.kind = 'dictionary': training samples contain values that are not finite")
    variance, mean = torch.var_mean(patches, 1, correction=0, keepdim=True)
    floor = (VARIANCE_FLOOR * variance.mean()).clamp_min(torch.finfo(torch.float32).tiny)
    normal = (patches - mean) * torch.rsqrt(variance + floor)
    centre, whitening = zca(normal)
    white = (normal.double() - centre) @ whitening
    atoms = _first_atoms(white.float(), settings, generator)
    if settings.learning == "kmeans":
        atoms = spherical_kmeans(white.float(), atoms)
    filters = atoms.double() @ whitening
    dictionary.offset.copy_(-(filters @ centre))
    filters -= filters.mean(1, keepdim=True)
    dictionary.filters.copy_(filters.view(dictionary.filters.shape))
    dictionary.floor.copy_(floor)
    coded = images[:: math.ceil(len(images) / CODED_IMAGES)]
    _standardise(dictionary, coded.split(dictionary.rows_at_once))


def cut_patches(images: Tensor, size: int, count: int, generator: torch.Generator) -> Tensor:
    """Return patches (count, C · size · size) at random positions of images (rows, C, height, width).

    The numbers of patches of two images differ by at most one.
    """
    rows, channels, height, width = images.shape
    row = torch.arange(count) % rows
    top = torch.randint(height - size + 1, (count,), generator=generator)
    left = torch.randint(width - size + 1, (count,), generator=generator)
    side = torch.arange(size)
    y, x = (top[:, None] + side)[:, None, :, None], (left[:, None] + side)[:, None, None, :]
    patches = images[row[:, None, None, None], torch.arange(channels)[None, :, None, None], y, x]
    return patches.reshape(count, channels * size * size)


def zca(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean m, shape (d,), and the ZCA matrix W, shape (d, d), of patches (n, d), float64.

    ``W = V (L + e)^(-1/2) V'`` with V and L the eigenvectors and eigenvalues of the covariance. W is symmetric, and
    W (n - m) has a covariance near the identity.
    """
    wide = patches.double()
    centre = wide.mean(0)
    wide = wide - centre
    values, vectors = torch.linalg.eigh(wide.T @ wide / len(wide))
    return centre, (vectors * torch.rsqrt(values.clamp_min(0) + EIGENVALUE_FLOOR)) @ vectors.T


def _first_atoms(white: Tensor, settings: ExtractorSection, generator: torch.Generator) -> Tensor:
    """Return random whitened patches of unit length, shape (K, d)."""
    chosen = torch.randperm(len(white), generator=generator)[: settings.atoms]
    return torch.nn.functional.normalize(white[chosen], dim=1)


def spherical_kmeans(white: Tensor, atoms: Tensor) -> Tensor:
    """Return atoms (K, d) of unit length after some iterations of k-means on the sphere (Coates and Ng 2012).

    Each patch z belongs to the atom with the largest |d_k z|. Then ``d_k <- sum of (d_k z) z over its patches + d_k``,
    scaled to unit length. The term d_k keeps an atom without patches unchanged.
    """
    for _ in range(ITERATIONS):
        sums = atoms.double()
        for block in white.split(BLOCK):
            product = block @ atoms.T
            best = product.abs().argmax(1)
            projection = product.gather(1, best[:, None])
            sums.index_add_(0, best, (projection * block).double())
        atoms = torch.nn.functional.normalize(sums, dim=1).float()
    return atoms


def _standardise(dictionary: PatchDictionary, blocks: Iterable[Tensor]) -> None:
    """Set the mean and scale of each channel of the codes, from all regions of blocks of images."""
    sums, count = torch.zeros(2, len(dictionary.code_mean), dtype=torch.float64), 0
    for block in blocks:
        codes = dictionary.codes(block).double()
        sums += torch.stack([codes.sum((0, 2, 3)), codes.square().sum((0, 2, 3))])
        count += codes.numel() // codes.shape[1]
    mean = sums[0] / count
    deviation = (sums[1] / count - mean * mean).clamp_min(0).sqrt()
    dictionary.code_mean.copy_(mean)
    # A constant channel becomes 0.
    dictionary.code_scale.copy_(torch.where(deviation > 0, 1 / deviation, 0))
