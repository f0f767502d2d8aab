"""Random changes of training images, drawn by (seed, epoch, sample): they do not depend on the rank or the batch."""

from __future__ import annotations

import torch

from rcdp_hpc.config import AugmentSection
from rcdp_hpc.networks.sample_rng import Draw, SampleRng

# Layer number of these random numbers, larger than that of any layer with dropout.
LAYER = 1_000_000
# Shifts down and across, mirror image, and the centre of the square that is cut out.
NUMBERS = 5
# Those up to the one that decides which images are mirrored.
MIRROR_NUMBERS = 3


def augment_draws(settings: AugmentSection) -> list[Draw]:
    """Return the random numbers that `augment` draws for each image."""
    if not settings.changes:
        return []
    fixed = [Draw(LAYER, MIRROR_NUMBERS, fixed=True)] if settings.flip and settings.alternate else []
    return [Draw(LAYER, NUMBERS), *fixed]


def augment(images: torch.Tensor, settings: AugmentSection, rng: SampleRng) -> torch.Tensor:
    """Return images that are shifted, mirrored and partly cut out, each with the random numbers of its sample.

    Parameters
    ----------
    images : torch.Tensor, shape (rows, height, width, ...)
        Images of mean 0. Pixels that are cut out become 0; pixels shifted in from outside are 0, or mirrored with
        ``edges = "reflect"``.
    settings : AugmentSection
        ``crop`` is the largest shift p: the shifts of both axes are uniform in -p .. p. ``flip`` mirrors half of the
        images from left to right, a random half in each epoch; with ``alternate`` the two halves take turns (Jordan
        2024), so that two epochs show each image both ways. ``cutout`` is the side of the square that is cut out
        (DeVries and Taylor 2017), whose centre is uniform over the image.
    rng : SampleRng
        Random numbers of these rows.

    Returns
    -------
    torch.Tensor, shape as `images`
    """
    rows, height, width = images.shape[:3]
    numbers = rng.uniform(NUMBERS, LAYER)
    down = _integers(numbers[:, 0], 2 * settings.crop + 1) - settings.crop
    across = _integers(numbers[:, 1], 2 * settings.crop + 1) - settings.crop
    y = torch.arange(height, device=images.device) + down[:, None]
    x = torch.arange(width, device=images.device) + across[:, None]
    if settings.flip:
        x = torch.where(_is_mirrored(settings, rng, numbers[:, 2])[:, None], x.flip(1), x)
    if settings.edges == "reflect":
        y, x = _reflected(y, height), _reflected(x, width)
    visible = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    if settings.cutout:
        visible = visible & ~(
            _in_square(_integers(numbers[:, 3], height), settings.cutout, height)[:, :, None]
            & _in_square(_integers(numbers[:, 4], width), settings.cutout, width)[:, None, :]
        )
    row = torch.arange(rows, device=images.device)[:, None, None]
    moved = images[row, y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]]
    return moved * visible.view(*visible.shape, *(1,) * (images.ndim - 3))


def views_of(images: torch.Tensor, settings: AugmentSection) -> list[tuple[float, torch.Tensor]]:
    """Return the views of images over which predictions are averaged, as pairs (weight, images).

    The weights add up to 1. With ``test_shift`` the unchanged images have the weight 1/2, and the images shifted up and
    left, and down and right, 1/4 each; edges are mirrored. With ``test_flips`` each view shares its weight with its
    mirror image.

    Parameters
    ----------
    images : torch.Tensor, shape (rows, height, width, ...)
    settings : AugmentSection
    """
    views = [(1.0, images)]
    if settings.test_shift:
        shifted = [(0.25, _shifted(images, sign * settings.test_shift)) for sign in (-1, 1)]
        views = [(0.5, images), *shifted]
    if settings.test_flips:
        views = [(weight / 2, view) for weight, original in views for view in (original, mirrored(original))]
    return views


def _shifted(images: torch.Tensor, pixels: int) -> torch.Tensor:
    """Return images shifted along both axes, mirrored at their edges."""
    y, x = (_reflected(torch.arange(length, device=images.device) - pixels, length) for length in images.shape[1:3])
    return images[:, y][:, :, x]


def _is_mirrored(settings: AugmentSection, rng: SampleRng, numbers: torch.Tensor) -> torch.Tensor:
    """Return whether each image is mirrored, shape (rows,), from numbers of this epoch in [0, 1)."""
    if not settings.alternate:
        return numbers < 0.5
    return (rng.uniform(MIRROR_NUMBERS, LAYER, fixed=True)[:, MIRROR_NUMBERS - 1] < 0.5) ^ rng.keys.parity


def _reflected(positions: torch.Tensor, length: int) -> torch.Tensor:
    """Return positions beyond an edge, mirrored at the outermost pixel, which is not repeated."""
    inside = positions.abs()
    return torch.where(inside >= length, 2 * (length - 1) - inside, inside)


def mirrored(images: torch.Tensor) -> torch.Tensor:
    """Return images (rows, height, width, ...) mirrored from left to right."""
    return images.flip(2)


def _integers(numbers: torch.Tensor, count: int) -> torch.Tensor:
    """Return integers 0 .. count - 1 from numbers in [0, 1)."""
    return (numbers * count).long()


def _in_square(centre: torch.Tensor, side: int, length: int) -> torch.Tensor:
    """Return whether each position of an axis is within a square of this side, shape (rows, length)."""
    first = centre[:, None] - side // 2
    position = torch.arange(length, device=centre.device)
    return (position >= first) & (position < first + side)
