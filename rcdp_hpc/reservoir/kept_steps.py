"""Checks that samples have the steps that the settings keep. Without torch, since the preparation runs them first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.sequencing import Sequencer


def kept_steps(steps: int, count: int, warm_up: int = 0) -> list[int]:
    """Return the steps (from 0) whose states are kept: `count` equally spaced ones, including the last.

    Parameters
    ----------
    steps : int
        Steps of the sequence.
    count : int
        States to keep.
    warm_up : int
        First steps that are left out.

    Returns
    -------
    list of int, ascending

    Raises
    ------
    InputError
        If the sequence has fewer steps after the warm-up than states to keep.
    """
    left = steps - warm_up
    if count > left:
        after = f" left after reservoir.warm_up = {warm_up}" if warm_up else ""
        remedy = f"set it to at most {left}" if left > 0 else "lower the warm-up"
        raise InputError(
            f"reservoir.states = {count} is more than the {max(left, 0)} steps of a sample{after}: "
            f"{remedy}, or choose another reservoir.sequence"
        )
    return [warm_up + (index + 1) * left // count - 1 for index in range(count)]


def steps_of(settings: ReservoirSection, length: int) -> list[int]:
    """Return the steps of a sequence of this length whose states ``reduction = "states"`` keeps.

    Raises
    ------
    InputError
        If the sequence is too short for them.
    """
    if not settings.steps:
        return kept_steps(length, settings.states, settings.warm_up)
    steps = [step + length if step < 0 else step for step in settings.steps]
    for setting, step in zip(settings.steps, steps, strict=True):
        if not settings.warm_up <= step < length:
            after = f" after reservoir.warm_up = {settings.warm_up}" if settings.warm_up else ""
            raise InputError(
                f"reservoir.steps: step {setting} is not within the {length} steps of a sample{after}: "
                f"choose steps from {settings.warm_up} to {length - 1}, or, counted from the end, from "
                f"{settings.warm_up - length} to -1"
            )
    return steps


def segment_bounds(
    settings: ReservoirSection, lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bounds of the segments of ``reduction = "segments"``.

    Segment j of k covers the steps floor(j · T / k) to floor((j + 1) · T / k) - 1 of the T steps after the warm-up. A
    sequence with fewer than k steps repeats steps: a segment that would be empty consists of the step at its start.

    Parameters
    ----------
    settings : ReservoirSection
        Uses segments and warm_up.
    lengths : numpy.ndarray, shape (n,), int
        Steps of each sequence.

    Returns
    -------
    starts : numpy.ndarray, shape (n, segments), int64
        First step of each segment.
    stops : numpy.ndarray, shape (n, segments), int64
        Step after the last one of each segment.
    """
    left = lengths.astype(np.int64)[:, None] - settings.warm_up
    edges = np.arange(settings.segments + 1) * left // settings.segments
    starts = edges[:, :-1]
    return settings.warm_up + starts, settings.warm_up + np.maximum(edges[:, 1:], starts + 1)


def check_length(settings: ReservoirSection, length: int) -> None:
    """Raise an `InputError` if a sequence of this length is too short for ``reservoir.reduction``."""
    if "states" in settings.reduction:
        steps_of(settings, length)
    if settings.reduction not in (["states"], ["all"]) and length <= settings.warm_up:
        raise InputError(
            f"reservoir.warm_up = {settings.warm_up} leaves nothing of a sequence of {length} steps: lower it"
        )


def check_samples(settings: ReservoirSection, sample_shape: Sequence[int], shortest: int | None) -> int:
    """Return the features per step of samples, after a check that the settings fit their shape.

    Parameters
    ----------
    settings : ReservoirSection
    sample_shape : sequence of int
        Shape of one sample.
    shortest : int or None
        Length of the shortest sample if samples are padded sequences.

    Raises
    ------
    InputError
        If samples cannot be cut as ``reservoir.sequence`` says, or the shortest has fewer steps than states to keep.
    """
    sequencer = Sequencer.of(settings)
    steps, features = sequencer.shape(sample_shape)
    check_steps(settings, steps)
    check_length(settings, steps if shortest is None else int(sequencer.lengths([shortest])[0]))
    return features


def scan_features(scan: str, window: int, features: int) -> int:
    """Return the inputs of a neuron per step, for a sequence with `features` features per step."""
    halved = scan.startswith(("rows", "columns"))
    return (features // 2 if halved else features) * window


def prepared_features(settings: ReservoirSection, features: int) -> int:
    """Return the features per step that drive the reservoir, for a sequence with `features` features per step."""
    return 2 * features if settings.differences else features


def check_steps(settings: ReservoirSection, steps: int) -> None:
    """Raise an `InputError` if samples have one step and the settings scale, or take differences, over steps."""
    settings_over_steps = {
        "series_scaling = 'standard'": settings.series_scaling != "none",
        "differences": settings.differences,
    }
    for key, is_set in settings_over_steps.items():
        if is_set and steps == 1:
            raise InputError(
                f"reservoir.{key} is for samples of several steps, but these have one step, which would become 0: "
                "remove the key, or choose a reservoir.sequence of several steps"
            )


def input_features(settings: ReservoirSection, features: int) -> int:
    """Return the inputs per step of the first reservoir, the only one with ``feature_scaling`` and ``matrices``."""
    return scan_features((settings.scans or ["forward"])[0], settings.window, prepared_features(settings, features))


def values_kept(settings: ReservoirSection, steps: int) -> int:
    """Return the steps of the feature sequence that a readout reads, for samples of `steps` steps."""
    if settings.kind == "none" or settings.reduction == ["all"]:
        return steps
    return (len(settings.steps) or settings.states) if settings.reduction == ["states"] else 1
