"""From samples to the sequences that drive the reservoir: cutting, scaling by series, differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.deploy.export.lowering.builder import Builder
from rcdp_hpc.reservoir.sequencing import Sequencer


class Sequences(NamedTuple):
    """Sequences (rows, steps, features) in a program.

    Attributes
    ----------
    name : str
        The value.
    steps : int
        Steps of the longest sequence of the training.
    features : int
    lengths : tuple of str
        The value with the steps of each sequence; empty if all have `steps`.
    """

    name: str
    steps: int
    features: int
    lengths: tuple[str, ...] = ()


def lower_sequences(builder: Builder, x: str, sequencer: Sequencer, sample_shape: Sequence[int]) -> Sequences:
    """Append what `Sequencer.sequences` and `Sequencer.lengths` do to samples (rows, *sample_shape)."""
    steps, features = sequencer.shape(sample_shape)
    if sequencer.order == "windows":
        length, width = sample_shape[0], math.prod(sample_shape[1:])
        size, stride = sequencer.size[0], sequencer.stride[0]
        x = builder.op("reshape", x, shape=[-1 if builder.lengths else length, width])
        x = builder.op("windows", x, size=size, stride=stride)
        ends = tuple(builder.op("window_lengths", name, size=size, stride=stride) for name in builder.lengths)
        return Sequences(x, steps, features, ends)
    if builder.lengths:
        return Sequences(x, steps, features, builder.lengths)
    flat = np.arange(math.prod(sample_shape))
    order = sequencer.sequences(flat.reshape(1, *sample_shape)).reshape(-1)
    shape = [steps, features]
    if np.array_equal(order, flat):
        unchanged = tuple(sample_shape) == (steps, features)
        return Sequences(x if unchanged else builder.op("reshape", x, shape=shape), steps, features)
    grid = [*sample_shape, 1, 1][:3]
    if sequencer.order in ("columns", "both", "channels"):
        axes = [3, 1, 2] if sequencer.order == "channels" else [2, 1, 3]
        turned = builder.op("transpose", builder.op("reshape", x, shape=grid), axes=axes)
        if sequencer.order != "both":
            return Sequences(builder.op("reshape", turned, shape=shape), steps, features)
        halves = [builder.op("reshape", half, shape=[steps, features // 2]) for half in (x, turned)]
        return Sequences(builder.op("concat", *halves, axis=2), steps, features)
    x = builder.op("reshape", x, shape=[len(flat)])
    x = builder.op("gather", x, builder.constant("order", order, np.int64), axis=1)
    return Sequences(builder.op("reshape", x, shape=shape), steps, features)


def lower_inputs(builder: Builder, settings: ReservoirSection, u: Sequences) -> Sequences:
    """Append what `rcdp_hpc.reservoir.inputs.prepare_inputs` does to sequences."""
    name = u.name
    if settings.series_scaling == "standard":
        name = builder.op("standardise_series", name, *u.lengths, least=0.0)
    if not settings.differences:
        return u._replace(name=name)
    between = builder.op("differences", name, *u.lengths, scaling=settings.difference_scaling)
    halved = u.features % 2 == 0 and any(scan.startswith(("rows", "columns")) for scan in settings.scans)
    bounds = [(0, u.features // 2), (u.features // 2, u.features)] if halved else [(0, u.features)]
    parts = [
        builder.op("slice", value, axis=2, start=start, stop=stop, step=1) if halved else value
        for start, stop in bounds
        for value in (name, between)
    ]
    return u._replace(name=builder.op("concat", *parts, axis=2), features=2 * u.features)
