"""Shapes that extractors take and give, and what is refused; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

from rcdp_hpc.config import AugmentSection, ExtractorSection
from rcdp_hpc.errors import InputError

Shape = Sequence[int]
# The kernels of ``extractor.kind = "kernels"``, and the values that each of them reads.
KERNELS, KERNEL_STEPS = 84, 9
# Codes of a dictionary are clipped at this distance from the mean of their channel, in standard deviations. Only
# channels that hardly ever change reach it. Sums over bounded values are the same bits for any number of ranks.
FARTHEST_CODE = 64.0


def check_augment(settings: AugmentSection, sample_shape: Shape) -> None:
    """Raise an `InputError` if samples are not images, or are to be mirrored at their edges further than they reach."""
    if len(sample_shape) < 2:
        raise InputError(f"[augment] changes images, and samples of shape {tuple(sample_shape)} are none: leave it out")
    crop = settings.crop if settings.edges == "reflect" else 0
    for key, places in (("crop", crop), ("test_shift", settings.test_shift)):
        if places >= min(sample_shape[:2]):
            raise InputError(
                f"augment.{key} = {places} mirrors images of {sample_shape[0]} x {sample_shape[1]} at their "
                f"edges: take at most {min(sample_shape[:2]) - 1}"
            )


def check_kernel_steps(steps: int, sample_shape: Shape) -> None:
    """Raise an `InputError` if samples have fewer steps than the nine that a convolution kernel reads."""
    if steps < KERNEL_STEPS:
        raise InputError(
            f"extractor.kind = 'kernels' needs series of at least {KERNEL_STEPS} steps, samples of shape "
            f"{tuple(sample_shape)} have {steps}: set extractor.kind = 'none', or a reservoir.sequence of "
            "more steps ('pixels' makes a step of each feature)"
        )


def feature_shares(settings: ExtractorSection) -> list[int]:
    """Return how many biases each convolution kernel has for each of its inputs.

    The first input takes twice as many as each other.
    """
    total, others = round(settings.kernels / KERNELS), len(settings.kernel_inputs) - 1
    each = total // (others + 2) if others else 0
    return [total - others * each, *[each] * others]


def kernel_features(settings: ExtractorSection) -> int:
    """Return the number of features of the convolution kernels."""
    return KERNELS * sum(feature_shares(settings))


def convolution_map(sample_shape: Shape, channels: Sequence[int], whitening: int) -> tuple[int, int]:
    """Return height and width of the map of the convolution extractor.

    Raises
    ------
    InputError
        If the samples are not images, or too small.
    """
    lost = max(0, whitening - 1)
    height, width = (max(0, length - lost) // 2 ** len(channels) for length in (*sample_shape, 0)[:2])
    if len(sample_shape) not in (2, 3) or not height or not width:
        least = 2 ** len(channels) + lost
        raise InputError(
            f"extractor.kind = 'convolution' with {len(channels)} stages needs images of at least "
            f"{least} x {least}, these samples have the shape {tuple(sample_shape)}: take fewer "
            "extractor.channels, or another extractor"
        )
    return height, width


def dictionary_map(settings: ExtractorSection, sample_shape: Shape) -> tuple[int, int]:
    """Return height and width of the map of the dictionary, before it is pooled.

    Raises
    ------
    InputError
        If the samples are not images, or too small for the patches or the regions.
    """
    if len(sample_shape) not in (2, 3) or min(sample_shape[:2]) < settings.patch:
        raise InputError(
            f"extractor.kind = 'dictionary' needs images of at least {settings.patch} x {settings.patch} "
            f"(extractor.patch), these samples have the shape {tuple(sample_shape)}: lower it, or take "
            "another extractor"
        )
    height, width = ((length - settings.patch) // settings.stride + 1 for length in sample_shape[:2])
    if min(height, width) < settings.pool:
        raise InputError(
            f"extractor.pool = {settings.pool}: the map has {height} x {width} places, fewer than "
            "regions: lower it, or extractor.patch or stride"
        )
    return height, width


def sequence_of_map(sequence: str, channels: int, height: int, width: int) -> tuple[int, int]:
    """Return the steps and features of a map (channels, height, width) that is read by "rows" or "positions"."""
    if sequence == "rows":
        return height, channels * width
    return height * width, channels
