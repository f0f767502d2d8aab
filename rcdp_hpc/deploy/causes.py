"""The likely cause if new samples are on another scale than the training data: one detector for each cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rcdp_hpc.data.ranges import FeatureRanges
from rcdp_hpc.deploy.comparison import FEW_SAMPLES, Comparison

# Factors between common scales, and the scales.
FACTORS = {
    255.0: "images as bytes (0 to 255) and as fractions (0 to 1)",
    257.0: "images of 16 and of 8 bits",
    65535.0: "images of 16 bits (0 to 65535) and as fractions (0 to 1)",
    65025.0: "images divided by 255 twice",
    100.0: "per cent and fractions, or metres and centimetres",
    1000.0: "a unit and its thousandth, as in kg and g",
    1e6: "a unit and its millionth",
}
# Two factors count as the same if their ratio is below this.
CLOSE = 1.6
# Features that a message names.
NAMED = 3


def other_scale_message(comparison: Comparison, path: Path) -> str:
    """Return the message about new samples on another scale: both ranges, the likely cause, and the remedy.

    Parameters
    ----------
    comparison : Comparison
        One for which `is_other_scale` is true.
    path : Path
        The file of new samples.
    """
    cause = next(filter(None, (detect(comparison) for detect in DETECTORS)))
    return f"{path}: its values are on another scale than the training data: {_both_ranges(comparison)}. {cause}"


def _both_ranges(comparison: Comparison) -> str:
    """Return the ranges of the features that differ most."""
    expected, scale = comparison.expected, comparison.expected.scale
    if len(comparison.new) == 1:
        return f"{_range(comparison.new, 0, scale)} here, {_range(expected.ranges, 0, scale)} in training"
    worst = np.argsort(-_distance(comparison), kind="stable")[: min(NAMED, int(expected.measured.sum()))]
    return "; ".join(
        f"{expected.name(feature)} has {_range(comparison.new, feature, scale)} here, "
        f"{_range(expected.ranges, feature, scale)} in training"
        for feature in worst.tolist()
    )


def _range(ranges: FeatureRanges, feature: int, scale: float) -> str:
    low, high = ranges.minimum[feature] / scale, ranges.maximum[feature] / scale
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _distance(comparison: Comparison) -> np.ndarray:
    """Return the distance of each feature from training, shape (F,).

    The larger of two measures: the difference of the means in standard deviations of the training, and the difference
    of the logarithms of the magnitudes. Features without a scale have -1.
    """
    ranges = comparison.expected.ranges
    steps = np.abs(comparison.new.mean - ranges.mean) / np.where(ranges.deviation > 0, ranges.deviation, 1.0)
    factors = np.where(comparison.comparable, np.abs(comparison.shift), 0.0)
    return np.where(comparison.expected.measured, np.maximum(steps, factors), -1.0)


def _negative_pixels(comparison: Comparison) -> str | None:
    """Detect negative values in images if the training images have none."""
    if (
        comparison.expected.ranges.kind != "images"
        or comparison.new.minimum.min() >= 0
        or comparison.expected.ranges.minimum.min() < 0
    ):
        return None
    return "Some values are negative, so the images seem to be normalised: pass pixels as in the training data."


def _known_factor(comparison: Comparison) -> str | None:
    """Detect one of the common factors between all features and those of the training."""
    ratio = _ratio(comparison, 0.3)
    if ratio is None:
        return None
    # Only 16-bit images differ by 257.
    has_uint16 = "uint16" in (comparison.new.dtype, comparison.expected.ranges.dtype)
    factors = [factor for factor in FACTORS if factor != 257 or has_uint16]
    near = min(factors, key=lambda factor: abs(abs(np.log(ratio)) - np.log(factor)))
    if abs(abs(np.log(ratio)) - np.log(near)) > np.log(CLOSE):
        return None
    verb, size = ("multiply", "smaller") if ratio < 1 else ("divide", "larger")
    noun = "pixels" if comparison.expected.ranges.kind == "images" else "values"
    return f"They are about {near:.6g} times {size} ({FACTORS[near]}): {verb} the {noun} by {near:.6g}."


def _any_factor(comparison: Comparison) -> str | None:
    """Detect any other factor that is about the same for all features."""
    ratio = _ratio(comparison, 0.5)
    if ratio is None:
        return None
    times, size = (1 / ratio, "smaller") if ratio < 1 else (ratio, "larger")
    return f"They are about {times:.3g} times {size}: convert them to the unit of the training data."


def _ratio(comparison: Comparison, spread: float) -> float | None:
    """Return the factor by which all features differ from training; None if the features differ by several.

    `spread` is the median deviation of the features' log factors up to which they count as one factor.
    """
    new, training, features = comparison.new, comparison.expected.ranges, comparison.comparable
    if not features.any():
        return None
    if training.kind == "images":
        # The mean brightness of images varies more than their brightest pixel.
        shifts = np.log(new.maximum[features]) - np.log(training.maximum[features])
    else:
        shifts = comparison.shift[features]
    middle = float(np.median(shifts))
    if abs(middle) < np.log(5) or np.median(np.abs(shifts - middle)) > spread:
        return None
    varied = features & (new.deviation > 0)
    if comparison.samples >= FEW_SAMPLES and varied.any():
        # A factor changes the standard deviation as well as the values; an offset does not.
        widened = float(np.median(np.log(new.deviation[varied] / training.deviation[varied])))
        if abs(widened - middle) > 1:
            return None
    return float(np.exp(middle))


def _standardised_here(comparison: Comparison) -> str | None:
    """Detect standardised new samples if the training data are not standardised."""
    here = comparison.samples >= 3 and _is_standardised(comparison.new, comparison)
    if not here or _is_standardised(comparison.expected.ranges, comparison):
        return None
    return "They seem to be standardised already (mean 0, standard deviation 1): pass raw samples, as in training."


def _standardised_in_training(comparison: Comparison) -> str | None:
    """Detect raw new samples if the training data were standardised."""
    here = comparison.samples >= 3 and _is_standardised(comparison.new, comparison)
    if here or not _is_standardised(comparison.expected.ranges, comparison):
        return None
    return (
        "The training data seem to have been standardised before rcdp read them, and these samples are raw: subtract "
        "the mean and divide by the standard deviation that were used for the training data."
    )


def _is_standardised(ranges: FeatureRanges, comparison: Comparison) -> bool:
    measured = comparison.expected.measured & (ranges.deviation > 0)
    if not measured.any():
        return False
    near = (np.abs(ranges.mean) < 0.7) & (ranges.deviation > 0.3) & (ranges.deviation < 3)
    return bool(near[measured].mean() >= 0.8)


def _other_order(comparison: Comparison) -> str | None:
    """Detect the same columns in another order."""
    expected = comparison.expected
    features = expected.measured & comparison.comparable
    if expected.by_name or features.sum() < 3 or expected.ranges.kind == "images":
        return None
    here, there = comparison.new.log_magnitude[features], expected.ranges.log_magnitude[features]
    apart = np.median(np.abs(here - there))
    if apart < 4 * np.median(np.abs(np.sort(here) - np.sort(there))):
        return None
    names = ", ".join(expected.names[:20]) + (", ..." if len(expected.names) > 20 else "")
    order = f" ({names})" if names else ""
    return f"The columns seem to be in another order: use the order of the training data{order}."


def _unknown(comparison: Comparison) -> str:
    order = "" if comparison.expected.by_name else ", another order of the columns"
    return (
        f"Likely causes: other units{order}, or samples that were not prepared like the training data. Prepare them in "
        "the same way."
    )


DETECTORS: tuple[Callable[[Comparison], str | None], ...] = (
    _negative_pixels,
    _known_factor,
    _standardised_here,
    _standardised_in_training,
    _other_order,
    _any_factor,
    _unknown,
)
