"""From raw samples to the values that the network was trained on: scaled, filled, standardised."""

from __future__ import annotations

import numpy as np

from rcdp_hpc.deploy.export.lowering.builder import Builder
from rcdp_hpc.deploy.export.program import SAMPLES
from rcdp_hpc.model.trained_model import TrainedModel

# Formats of a source whose values float32 holds exactly.
SINGLE = ("bool", "uint8", "int8", "uint16", "int16", "float16", "float32")
# `rcdp_hpc.data.standardization`: a series that varies less is constant.
LEAST_RELATIVE_DEVIATION = 1e-12


def sample_dtype(model: TrainedModel) -> str:
    """Return the type of the program's samples: float64 if float32 loses digits that the standardisation needs."""
    standardization, ranges = model.data.standardization, model.data.ranges
    if standardization is None or not standardization.changes:
        return "float32"
    return "float32" if ranges is not None and ranges.dtype in SINGLE else "float64"


def lower_samples(builder: Builder, model: TrainedModel) -> str:
    """Append what `TrainedModel.prepared` does to raw samples; return the name of the result, float32."""
    standardization, scale, axis = model.data.standardization, model.scale, len(model.sample_shape)
    x = SAMPLES
    channels = _mask_channels(builder, model, axis)
    if standardization is not None and standardization.fill is not None:
        x = builder.op("fill", x, builder.constant("fill", standardization.fill / scale, np.float64))
    method = "none" if standardization is None else standardization.method
    if standardization is not None and method not in ("none", "series"):
        center, factor = standardization.center / scale, scale / standardization.deviation
        x = builder.affine(x, center, factor, axis=axis, name="standardise", double=True)
    elif method == "series":
        x = builder.op("standardise_series", x, *builder.lengths, least=LEAST_RELATIVE_DEVIATION)
    elif scale != 1:
        x = builder.affine(x, np.zeros(1), np.array([scale]), axis=axis, name="scale", double=True)
    if channels:
        x = builder.op("concat", x, *channels, axis=axis)
    return builder.op("blank", x, *builder.lengths) if builder.lengths else x


def _mask_channels(builder: Builder, model: TrainedModel, axis: int) -> tuple[str, ...]:
    """Append the mask channels of missing values; return the name of the result, empty if the model has none."""
    mask = () if model.data.standardization is None else model.data.standardization.mask
    if not mask:
        return ()
    x = builder.op("gather", SAMPLES, builder.constant("masked_features", np.array(mask), np.int64), axis=axis)
    # 0 times a number is 0, and 0 times NaN is NaN, which becomes 1.
    x = builder.affine(x, np.zeros(1), np.zeros(1), axis=axis, name="mask", double=True)
    return (builder.op("fill", x, builder.constant("missing", np.ones(len(mask)), np.float64)),)
