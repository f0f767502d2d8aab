"""The steps whose states are kept, and whether samples have them. Needs no torch: preparation asks before it begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.sequencing import Sequencer


def kept_steps(steps: int, count: int, warm_up: int = 0) -> list[int]:
    """Return the steps (from 0) whose states are kept: `count` of them, equally spaced, the last included.

    Parameters
    ----------
    steps, count : int
        Steps of the sequence; states to keep.
    warm_up : int
        Steps at the beginning that count for nothing.

    Raises
    ------
    InputError
        If more states are asked for than the sequence has steps.
    """
    left = steps - warm_up
    if count > left:
        after = f" left after reservoir.warm_up = {warm_up}" if warm_up else ""
        lower = f"set it to at most {left}" if left > 0 else "lower the warm-up"
        raise InputError(
            f"reservoir.states = {count} is more than the {max(left, 0)} steps of a sample{after}: "
            f"{lower}, or choose another reservoir.sequence"
        )
    return [warm_up + (place + 1) * left // count - 1 for place in range(count)]


def steps_of(settings: ReservoirSection, length: int) -> list[int]:
    """Return the steps whose states are kept of a sequence of this length, for ``reduction = "states"``.

    Raises
    ------
    InputError
        If the sequence is too short for them.
    """
    if not settings.steps:
        return kept_steps(length, settings.states, settings.warm_up)
    found = [step + length if step < 0 else step for step in settings.steps]
    for asked, step in zip(settings.steps, found, strict=True):
        if not settings.warm_up <= step < length:
            after = f" after reservoir.warm_up = {settings.warm_up}" if settings.warm_up else ""
            raise InputError(
                f"reservoir.steps: step {asked} is not within the {length} steps of a sample{after}: "
                f"choose steps from {settings.warm_up} to {length - 1}, or, counted from the end, from "
                f"{settings.warm_up - length} to -1"
            )
    return found


def segment_bounds(
    settings: ReservoirSection, lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first step of each segment and the one after its last, for ``reduction = "segments"``.

    Segment j of k covers the steps floor(j · T / k) to floor((j + 1) · T / k) - 1 of the T steps after the warm-up. A
    sequence with fewer than k steps repeats them: an empty segment is the step at its start.

    Parameters
    ----------
    settings : ReservoirSection
        Of it are used: segments, warm_up.
    lengths : numpy.ndarray, shape (n,), int
        Steps of each sequence.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        Both of shape (n, segments), int64.
    """
    left = lengths.astype(np.int64)[:, None] - settings.warm_up
    edges = np.arange(settings.segments + 1) * left // settings.segments
    starts = edges[:, :-1]
    return settings.warm_up + starts, settings.warm_up + np.maximum(edges[:, 1:], starts + 1)


def check_length(settings: ReservoirSection, length: int) -> None:
    """Raise an `InputError` if a sequence of this length is too short for what is kept of it."""
    if "states" in settings.reduction:
        steps_of(settings, length)
    if settings.reduction not in (["states"], ["all"]) and length <= settings.warm_up:
        raise InputError(
            f"reservoir.warm_up = {settings.warm_up} leaves nothing of a sequence of {length} steps: lower it"
        )


def check_samples(settings: ReservoirSection, sample_shape: Sequence[int], shortest: int | None) -> int:
    """Return the features per step of samples, or refuse those that cannot be read as the settings say.

    Parameters
    ----------
    settings : ReservoirSection
    sample_shape : sequence of int
        Shape of one sample.
    shortest : int or None
        Length of the shortest where samples are padded sequences.

    Raises
    ------
    InputError
        If samples cannot be cut so, or the shortest has fewer steps than are to be kept.
    """
    cut = Sequencer.of(settings)
    steps, features = cut.shape(sample_shape)
    check_steps(settings, steps)
    check_length(settings, steps if shortest is None else int(cut.lengths([shortest])[0]))
    return features


def scan_features(scan: str, window: int, features: int) -> int:
    """Return how many inputs a neuron has at a step when a step of the sequence has `features`."""
    halved = scan.startswith(("rows", "columns"))
    return (features // 2 if halved else features) * window


def read_features(settings: ReservoirSection, features: int) -> int:
    """Return how many features a step has that drives the reservoir, of `features` in the sequence."""
    return 2 * features if settings.differences else features


def check_steps(settings: ReservoirSection, steps: int) -> None:
    """Raise an `InputError` if samples of one step are to be scaled, or differenced, over their steps."""
    keys = {"series_scaling = 'standard'": settings.series_scaling != "none", "differences": settings.differences}
    for key, asked in keys.items():
        if asked and steps == 1:
            raise InputError(
                f"reservoir.{key} is for samples of several steps, and these have one, of which it leaves 0: take it "
                "out, or choose a reservoir.sequence of several steps"
            )


def input_features(settings: ReservoirSection, features: int) -> int:
    """Return the inputs per step of the first reservoir, which ``feature_scaling`` and ``matrices`` are for."""
    return scan_features((settings.scans or ["forward"])[0], settings.window, read_features(settings, features))


def values_kept(settings: ReservoirSection, steps: int) -> int:
    """Return how many steps of states a readout sees of a sequence with `steps`; all of them without a reservoir."""
    if settings.kind == "none" or settings.reduction == ["all"]:
        return steps
    return (len(settings.steps) or settings.states) if settings.reduction == ["states"] else 1
