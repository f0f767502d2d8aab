"""The message about new samples whose shape does not fit the model, with the likely cause."""

from __future__ import annotations

import math
from pathlib import Path

from rcdp_hpc.data.sources import NewSamples
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.prediction_model import PredictionModel

# Columns that a message names.
NAMED = 20


def refuse_other_shape(model: PredictionModel, new: NewSamples, path: Path) -> None:
    """Raise an `InputError` if the shape of new samples does not fit a model.

    Parameters
    ----------
    model : PredictionModel
    new : NewSamples
    path : Path
        The file of the samples, for the message.
    """
    shape = tuple(int(length) for length in new.x.shape[1:])
    if model.accepts(shape, new.lengths is not None):
        return
    raise InputError(
        f"{path}: samples of shape {shape}; this model takes {model.raw_shape}{_columns(model)}. "
        f"{_cause(model, new, shape)}"
    )


def _columns(model: PredictionModel) -> str:
    if model.data.columns is None:
        return ""
    names = model.data.columns.features
    return f": the columns {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}"


def _cause(model: PredictionModel, new: NewSamples, shape: tuple[int, ...]) -> str:
    expected = model.raw_shape
    if (int(new.x.shape[0]), *shape) == expected:
        return "The file holds one sample without the axis of samples: save x[None]."
    if len(shape) == len(expected) == 1:
        return _cause_of_width(shape[0], expected[0], int(new.x.shape[0]))
    if len(expected) == 3 and len(shape) == 3 and (shape[1], shape[2], shape[0]) == expected:
        return "The channels come first: move them last (numpy.moveaxis(x, 1, -1)), or set data.image_layout."
    if len(shape) == len(expected) == 2 and shape == expected[::-1]:
        return "The axes are swapped: transpose each sample (x.swapaxes(1, 2))."
    if len(shape) == 2 and len(expected) == 3 and expected[2] == 1 and shape == expected[:2]:
        return "The axis of channels is missing: save x[..., None]."
    if len(expected) == 2 and len(shape) == 3 and shape[2] == 1 and shape[:2] == expected:
        return "The samples have an axis of channels, and the training data have none: save x[..., 0]."
    if math.prod(shape) == math.prod(expected):
        return f"The number of values is the same: reshape the samples, x.reshape(-1, {', '.join(map(str, expected))})."
    if len(shape) == len(expected) == 2 and shape[1] == expected[1]:
        return (
            "The series have another number of steps, and this model was trained on series of one length: cut or "
            "resample them."
        )
    if len(expected) == 3 or (model.data.ranges is not None and model.data.ranges.kind == "images"):
        return "Resize the images to the size of the training images."
    return "Prepare the samples like the training data."


def _cause_of_width(columns: int, expected: int, rows: int) -> str:
    if rows == expected:
        return "The axes may be swapped: save x.T, one row per sample."
    if columns == expected + 1:
        return "One column too many: remove the column of labels or of row numbers, if there is one."
    if columns == expected - 1:
        return "One column is missing."
    return f"{abs(columns - expected)} columns {'too many' if columns > expected else 'are missing'}."
