"""Random changes of training images, drawn by (seed, epoch, sample): the same whichever rank and batch they fall in."""

from __future__ import annotations

import torch

from rcdp_hpc.config import AugmentSection
from rcdp_hpc.networks.sample_rng import SampleRng

# Beyond the layers of any network, whose dropout is drawn from the same numbers.
LAYER = 1_000_000


def augment(images: torch.Tensor, settings: AugmentSection, draw: SampleRng) -> torch.Tensor:
    """Return images shifted, mirrored and with a square cut out, each by its own sample's draw.

    Parameters
    ----------
    images : torch.Tensor, shape (rows, height, width, ...)
        With mean 0: what is cut out becomes 0, and what is shifted in unless ``edges`` says ``"reflect"``.
    settings : AugmentSection
        ``crop`` is the largest shift p, both axes uniform in -p .. p; ``flip`` mirrors half of the images from left to
        right, drawn anew in each epoch, or with ``alternate`` the halves in turn (Jordan 2024), so that two epochs show
        each image both ways; ``cutout`` is the side of the square (DeVries and Taylor 2017), whose centre is uniform
        over the image.
    draw : SampleRng
        Of these rows.
    """
    rows, height, width = images.shape[:3]
    chance = draw.uniform(5, LAYER)
    down = _whole(chance[:, 0], 2 * settings.crop + 1) - settings.crop
    across = _whole(chance[:, 1], 2 * settings.crop + 1) - settings.crop
    y = torch.arange(height, device=images.device) + down[:, None]
    x = torch.arange(width, device=images.device) + across[:, None]
    if settings.flip:
        x = torch.where(_turned(settings, draw, chance[:, 2])[:, None], x.flip(1), x)
    if settings.edges == "reflect":
        y, x = _reflected(y, height), _reflected(x, width)
    kept = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    if settings.cutout:
        kept = kept & ~(
            _within(_whole(chance[:, 3], height), settings.cutout, height)[:, :, None]
            & _within(_whole(chance[:, 4], width), settings.cutout, width)[:, None, :]
        )
    row = torch.arange(rows, device=images.device)[:, None, None]
    moved = images[row, y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]]
    return moved * kept.view(*kept.shape, *(1,) * (images.ndim - 3))


def views_of(images: torch.Tensor, settings: AugmentSection) -> list[tuple[float, torch.Tensor]]:
    """Return what predictions of images are averaged over: weights that add up to 1, and images.

    With ``test_shift`` the images as they are count one half, and moved up and left, or down and right, one quarter
    each, their edges mirrored; with ``test_flips`` each of these is halved with its mirror image.

    Parameters
    ----------
    images : torch.Tensor, shape (rows, height, width, ...)
    settings : AugmentSection
    """
    views = [(1.0, images)]
    if settings.test_shift:
        views = [(0.5, images), *((0.25, _moved(images, way * settings.test_shift)) for way in (-1, 1))]
    if settings.test_flips:
        views = [(weight / 2, view) for weight, seen in views for view in (seen, mirrored(seen))]
    return views


def _moved(images: torch.Tensor, places: int) -> torch.Tensor:
    """Return images moved along both axes, mirrored at their edges."""
    y, x = (_reflected(torch.arange(length, device=images.device) - places, length) for length in images.shape[1:3])
    return images[:, y][:, :, x]


def _turned(settings: AugmentSection, draw: SampleRng, chance: torch.Tensor) -> torch.Tensor:
    """Tell which images are mirrored, given this epoch's numbers in [0, 1)."""
    if not settings.alternate:
        return chance < 0.5
    return (draw.first().uniform(3, LAYER)[:, 2] < 0.5) ^ bool(draw.epoch % 2)


def _reflected(place: torch.Tensor, length: int) -> torch.Tensor:
    """Return places beyond an edge mirrored at the outermost pixel, which is not repeated."""
    inside = place.abs()
    return torch.where(inside >= length, 2 * (length - 1) - inside, inside)


def mirrored(images: torch.Tensor) -> torch.Tensor:
    """Return images (rows, height, width, ...) mirrored from left to right."""
    return images.flip(2)


def _whole(chance: torch.Tensor, count: int) -> torch.Tensor:
    """Return whole numbers 0 .. count - 1 from numbers in [0, 1)."""
    return (chance * count).long()


def _within(centre: torch.Tensor, side: int, length: int) -> torch.Tensor:
    """Tell which places of an axis lie within `side` places around each centre, shape (rows, length)."""
    first = centre[:, None] - side // 2
    place = torch.arange(length, device=centre.device)
    return (place >= first) & (place < first + side)
