"""Random changes of training images, drawn by (seed, epoch, sample): they do not depend on the rank or the batch."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch

from rcdp_hpc.config import AugmentSection
from rcdp_hpc.networks.sample_rng import Draw, SampleRng

# Layer number of these random numbers, larger than that of any layer with dropout.
LAYER = 1_000_000
# Shifts down and across, mirror image, and the centre of the square that is cut out.
NUMBERS = 5
# Those up to the one that decides which images are mirrored.
MIRROR_NUMBERS = 3
# Codes of pixels from here on are not visible (`_Tables`); positions are below half of it.
UNSEEN = 1 << 41


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
    height, width = images.shape[1:3]
    tables = _tables(settings.crop, settings.edges == "reflect", settings.cutout, height, width, images.device)
    numbers = rng.uniform(NUMBERS, LAYER)
    down, across, _, square_y, square_x = (numbers * tables.counts).long().unbind(1)
    if settings.flip:
        across = torch.add(across, _is_mirrored(settings, rng, numbers[:, MIRROR_NUMBERS - 1]), alpha=len(tables.y))
    y, x = tables.y[down], tables.x[across]
    if settings.cutout:
        y, x = y + tables.square_y[square_y], x + tables.square_x[square_x]
    codes = (y[:, :, None] + x[:, None, :]).flatten(1)
    pixels = images.flatten(1, 2)
    form = (*codes.shape, *(1,) * (pixels.ndim - 2))
    is_hiding = settings.cutout or settings.edges != "reflect"
    positions = codes & (UNSEEN // 2 - 1) if is_hiding else codes
    moved = pixels.gather(1, positions.view(form).expand_as(pixels)).view(images.shape)
    return moved * (codes < UNSEEN).view(*images.shape[:3], *form[2:]) if is_hiding else moved


class _Tables(NamedTuple):
    """What the random integers of an image stand for, so that each is one look-up.

    The codes of both axes are added. The first bits of a code are the position of a pixel; the others are `UNSEEN` or
    more if the pixel is beyond an edge, or within the square on both axes.

    Attributes
    ----------
    counts : torch.Tensor, shape (NUMBERS,), float32
        The integer of a number is that number times its count, rounded down.
    y : torch.Tensor, shape (shifts, height), int64
        Codes of the rows of an image that is shifted down.
    x : torch.Tensor, shape (2 * shifts, width), int64
        Codes of its columns, those of mirrored images in the second half.
    square_y : torch.Tensor, shape (height, height), int64
        Codes of the rows within the square whose centre is a row.
    square_x : torch.Tensor, shape (width, width), int64
        The same for columns.
    """

    counts: torch.Tensor
    y: torch.Tensor
    x: torch.Tensor
    square_y: torch.Tensor
    square_x: torch.Tensor


@lru_cache(maxsize=8)
def _tables(crop: int, reflects: bool, cutout: int, height: int, width: int, device: torch.device) -> _Tables:
    shifts = torch.arange(-crop, crop + 1)[:, None]
    x = torch.arange(width) + shifts
    codes = [
        _codes(positions, length, stride, reflects)
        for positions, length, stride in (
            (torch.arange(height) + shifts, height, width),
            (torch.cat([x, x.flip(1)]), width, 1),
        )
    ]
    squares = [_in_square(torch.arange(length), cutout, length) * (UNSEEN // 2) for length in (height, width)]
    counts = torch.tensor([2 * crop + 1, 2 * crop + 1, 1, height, width], dtype=torch.float32)
    return _Tables(*(table.to(device) for table in (counts, *codes, *squares)))


def _codes(positions: torch.Tensor, length: int, stride: int, reflects: bool) -> torch.Tensor:
    """Return the codes of positions on an axis, of which some are beyond its edges."""
    if reflects:
        return _reflected(positions, length) * stride
    inside = positions.clamp(0, length - 1)
    return inside * stride + (positions != inside) * UNSEEN


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


def _in_square(centre: torch.Tensor, side: int, length: int) -> torch.Tensor:
    """Return whether each position of an axis is within a square of this side, shape (rows, length)."""
    first = centre[:, None] - side // 2
    position = torch.arange(length, device=centre.device)
    return (position >= first) & (position < first + side)
