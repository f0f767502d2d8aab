"""Shapes of the input and output of extractors, and their checks. This module needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

from rcdp_hpc.config import AugmentSection, ExtractorSection
from rcdp_hpc.errors import InputError

Shape = Sequence[int]
# Number of convolution kernels of ``extractor.kind = "kernels"``, and the steps that each of them reads.
KERNELS = 84
KERNEL_STEPS = 9
# Codes of a dictionary are clipped at this distance from the mean of their channel, in standard deviations. Only
# channels that hardly ever change reach it. Sums over bounded values are the same bits for any number of ranks.
FARTHEST_CODE = 64.0


def check_augment(settings: AugmentSection, sample_shape: Shape) -> None:
    """Raise an `InputError` if samples are not images, or too small for the shifts that mirror their edges."""
    if len(sample_shape) < 2:
        raise InputError(
            f"[augment] changes images, but samples of shape {tuple(sample_shape)} are not images: remove the section"
        )
    crop = settings.crop if settings.edges == "reflect" else 0
    for key, pixels in (("crop", crop), ("test_shift", settings.test_shift)):
        if pixels >= min(sample_shape[:2]):
            raise InputError(
                f"augment.{key} = {pixels} mirrors more pixels than an image of {sample_shape[0]} x {sample_shape[1]} "
                f"has: set it to at most {min(sample_shape[:2]) - 1}"
            )


def check_kernel_steps(steps: int, sample_shape: Shape) -> None:
    """Raise an `InputError` if samples have fewer than the nine steps that a convolution kernel reads."""
    if steps < KERNEL_STEPS:
        raise InputError(
            f"extractor.kind = 'kernels' needs series of at least {KERNEL_STEPS} steps, but samples of shape "
            f"{tuple(sample_shape)} have {steps}: set extractor.kind = 'none', or choose a reservoir.sequence with "
            "more steps ('pixels' makes a step of each feature)"
        )


def bias_counts(settings: ExtractorSection) -> list[int]:
    """Return the number of biases of each convolution kernel for each of its inputs.

    The first input has twice as many as each other input.
    """
    total, others = round(settings.kernels / KERNELS), len(settings.kernel_inputs) - 1
    each = total // (others + 2) if others else 0
    return [total - others * each, *[each] * others]


def kernel_features(settings: ExtractorSection) -> int:
    """Return the number of features of the convolution kernels."""
    return KERNELS * sum(bias_counts(settings))


def convolution_map(sample_shape: Shape, channels: Sequence[int], whitening: int) -> tuple[int, int]:
    """Return the height and width of the last feature map of the convolutions.

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
            f"{least} x {least}, but these samples have the shape {tuple(sample_shape)}: set fewer "
            "extractor.channels, or another extractor.kind"
        )
    return height, width


def dictionary_map(settings: ExtractorSection, sample_shape: Shape) -> tuple[int, int]:
    """Return the height and width of the map of codes before pooling.

    Raises
    ------
    InputError
        If the samples are not images, or too small for the patches or the regions.
    """
    if len(sample_shape) not in (2, 3) or min(sample_shape[:2]) < settings.patch:
        raise InputError(
            f"extractor.kind = 'dictionary' needs images of at least {settings.patch} x {settings.patch} "
            f"(extractor.patch), but these samples have the shape {tuple(sample_shape)}: set a smaller "
            "extractor.patch, or another extractor.kind"
        )
    height, width = ((length - settings.patch) // settings.stride + 1 for length in sample_shape[:2])
    if min(height, width) < settings.pool:
        raise InputError(
            f"extractor.pool = {settings.pool} needs a map of at least {settings.pool} x {settings.pool} positions, "
            f"but it has {height} x {width}: set a smaller extractor.pool, extractor.patch or extractor.stride"
        )
    return height, width


def sequence_of_map(sequence: str, channels: int, height: int, width: int) -> tuple[int, int]:
    """Return the steps and features of a map (channels, height, width) that is read by "rows" or "positions"."""
    if sequence == "rows":
        return height, channels * width
    return height * width, channels
