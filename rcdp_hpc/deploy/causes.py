"""Why new samples are on another scale than the training data, and what to do: one detector for each cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rcdp_hpc.data.ranges import FeatureRanges
from rcdp_hpc.deploy.comparison import FEW_SAMPLES, Comparison

# Factors that people multiply or divide samples by, and what they are.
FACTORS = {
    255.0: "images as bytes (0 to 255) and as fractions (0 to 1)",
    257.0: "images of 16 and of 8 bits",
    65535.0: "images of 16 bits (0 to 65535) and as fractions (0 to 1)",
    65025.0: "images divided by 255 twice",
    100.0: "per cent and fractions, or metres and centimetres",
    1000.0: "a unit and its thousandth, as in kg and g",
    1e6: "a unit and its millionth",
}
# Factors as close as this are taken for the same.
CLOSE = 1.6
NAMED = 3


def other_scale_message(found: Comparison, path: Path) -> str:
    """Return what is wrong with the scale of new samples: what was seen, the likely cause, and the remedy.

    Parameters
    ----------
    found : Comparison
        One that `is_other_scale`.
    path : Path
        The file of new samples.
    """
    cause = next(filter(None, (detect(found) for detect in CAUSES)))
    return f"{path}: its values are on another scale than the training data: {_seen(found)}. {cause}"


def _seen(found: Comparison) -> str:
    """Return the ranges of the features that differ most."""
    expected, scale = found.expected, found.expected.scale
    if len(found.new) == 1:
        return f"{_range(found.new, 0, scale)} here, {_range(expected.ranges, 0, scale)} in training"
    worst = np.argsort(-_distance(found), kind="stable")[: min(NAMED, int(expected.measured.sum()))]
    return "; ".join(
        f"{expected.name(feature)} has {_range(found.new, feature, scale)} here, "
        f"{_range(expected.ranges, feature, scale)} in training"
        for feature in worst.tolist()
    )


def _range(ranges: FeatureRanges, feature: int, scale: float) -> str:
    low, high = ranges.minimum[feature] / scale, ranges.maximum[feature] / scale
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _distance(found: Comparison) -> np.ndarray:
    """Return how far each feature is off, in training deviations or factors of e, whichever is larger."""
    ranges = found.expected.ranges
    steps = np.abs(found.new.mean - ranges.mean) / np.where(ranges.deviation > 0, ranges.deviation, 1.0)
    factors = np.where(found.comparable, np.abs(found.shift), 0.0)
    return np.where(found.expected.measured, np.maximum(steps, factors), -1.0)


def _negative_pixels(found: Comparison) -> str | None:
    """Find images with values below 0 if the training images have none."""
    if (
        found.expected.ranges.kind != "images"
        or found.new.minimum.min() >= 0
        or found.expected.ranges.minimum.min() < 0
    ):
        return None
    return "Their values go below 0, so they seem to be normalised: pass the pixels as the training data had them."


def _known_factor(found: Comparison) -> str | None:
    """Find one factor, a known one, between all features and those of training."""
    ratio = _ratio(found, 0.3)
    if ratio is None:
        return None
    # Only images of 16 bits differ by 257.
    deep = "uint16" in (found.new.dtype, found.expected.ranges.dtype)
    known = [factor for factor in FACTORS if factor != 257 or deep]
    near = min(known, key=lambda factor: abs(abs(np.log(ratio)) - np.log(factor)))
    if abs(abs(np.log(ratio)) - np.log(near)) > np.log(CLOSE):
        return None
    verb, size = ("multiply", "smaller") if ratio < 1 else ("divide", "larger")
    what = "pixels" if found.expected.ranges.kind == "images" else "values"
    return f"They are about {near:.6g} times {size} ({FACTORS[near]}): {verb} the {what} by {near:.6g}."


def _any_factor(found: Comparison) -> str | None:
    """Find about one factor between all features and those of training."""
    ratio = _ratio(found, 0.5)
    if ratio is None:
        return None
    times, size = (1 / ratio, "smaller") if ratio < 1 else (ratio, "larger")
    return f"They are about {times:.3g} times {size}: bring them to the unit of the training data."


def _ratio(found: Comparison, spread: float) -> float | None:
    """Return the one factor by which all features differ from training; None if there is none."""
    new, training, features = found.new, found.expected.ranges, found.comparable
    if not features.any():
        return None
    if training.kind == "images":
        # How bright images are on average says less than their brightest pixel.
        shifts = np.log(new.maximum[features]) - np.log(training.maximum[features])
    else:
        shifts = found.shift[features]
    middle = float(np.median(shifts))
    if abs(middle) < np.log(5) or np.median(np.abs(shifts - middle)) > spread:
        return None
    varied = features & (new.deviation > 0)
    if found.samples >= FEW_SAMPLES and varied.any():
        # A factor changes the deviation as it changes the values; an offset does not.
        widened = float(np.median(np.log(new.deviation[varied] / training.deviation[varied])))
        if abs(widened - middle) > 1:
            return None
    return float(np.exp(middle))


def _standardised_here(found: Comparison) -> str | None:
    """Find new samples of mean 0 and deviation 1, and training data that are not."""
    if found.samples < 3 or not _is_standardised(found.new, found) or _is_standardised(found.expected.ranges, found):
        return None
    return (
        "They seem to be standardised already (mean 0, standard deviation 1): pass them raw, as the training data were."
    )


def _standardised_in_training(found: Comparison) -> str | None:
    """Find training data of mean 0 and deviation 1, and new samples that are not."""
    if not _is_standardised(found.expected.ranges, found) or (found.samples > 2 and _is_standardised(found.new, found)):
        return None
    return (
        "The training data seem to have been standardised before they were given to this package, and these samples "
        "are raw: subtract the mean and divide by the standard deviation that were used for the training data."
    )


def _is_standardised(ranges: FeatureRanges, found: Comparison) -> bool:
    measured = found.expected.measured & (ranges.deviation > 0)
    if not measured.any():
        return False
    near = (np.abs(ranges.mean) < 0.7) & (ranges.deviation > 0.3) & (ranges.deviation < 3)
    return bool(near[measured].mean() >= 0.8)


def _other_order(found: Comparison) -> str | None:
    """Find the same columns in another order."""
    expected = found.expected
    features = expected.measured & found.comparable
    if expected.by_name or features.sum() < 3 or expected.ranges.kind == "images":
        return None
    here, there = found.new.log_magnitude[features], expected.ranges.log_magnitude[features]
    apart = np.median(np.abs(here - there))
    if apart < 4 * np.median(np.abs(np.sort(here) - np.sort(there))):
        return None
    names = ", ".join(expected.names[:20]) + (", ..." if len(expected.names) > 20 else "")
    order = f" ({names})" if names else ""
    return f"The columns seem to be in another order: put them in that of the training data{order}."


def _unknown(found: Comparison) -> str:
    order = "" if found.expected.by_name else ", another order of the columns"
    return (
        f"Likely causes: other units{order}, or samples that were not prepared as the training data were. Prepare them "
        "in the same way."
    )


CAUSES: tuple[Callable[[Comparison], str | None], ...] = (
    _negative_pixels,
    _known_factor,
    _standardised_here,
    _standardised_in_training,
    _other_order,
    _any_factor,
    _unknown,
)
