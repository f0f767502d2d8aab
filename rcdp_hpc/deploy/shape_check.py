"""New samples of another shape than the model takes: what was expected, and the likely cause."""

from __future__ import annotations

import math
from pathlib import Path

from rcdp_hpc.data.sources import NewSamples
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.trained_model import TrainedModel

NAMED = 20


def refuse_other_shape(model: TrainedModel, new: NewSamples, path: Path) -> None:
    """Raise an `InputError` if a model does not take samples of this shape.

    Parameters
    ----------
    model : TrainedModel
    new : NewSamples
    path : Path
        Their file, for the message.
    """
    shape = tuple(int(length) for length in new.x.shape[1:])
    if model.takes(shape, new.lengths is not None):
        return
    raise InputError(
        f"{path}: samples of shape {shape}; this model takes {model.sample_shape}{_columns(model)}. "
        f"{_cause(model, new, shape)}"
    )


def _columns(model: TrainedModel) -> str:
    if model.data.columns is None:
        return ""
    names = model.data.columns.features
    return f": the columns {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}"


def _cause(model: TrainedModel, new: NewSamples, shape: tuple[int, ...]) -> str:
    expected = model.sample_shape
    if (int(new.x.shape[0]), *shape) == expected:
        return "It holds one sample without the axis of samples: save x[None]."
    if len(shape) == len(expected) == 1:
        return _cause_of_width(shape[0], expected[0], int(new.x.shape[0]))
    if len(expected) == 3 and len(shape) == 3 and (shape[1], shape[2], shape[0]) == expected:
        return "Its channels come first: move them last (numpy.moveaxis(x, 1, -1)), or set data.image_layout."
    if len(shape) == len(expected) == 2 and shape == expected[::-1]:
        return "Its axes are swapped: transpose each sample (x.swapaxes(1, 2))."
    if len(shape) == 2 and len(expected) == 3 and expected[2] == 1 and shape == expected[:2]:
        return "It lacks the axis of channels: save x[..., None]."
    if len(expected) == 2 and len(shape) == 3 and shape[2] == 1 and shape[:2] == expected:
        return "It has an axis of channels that the training data did not have: save x[..., 0]."
    if math.prod(shape) == math.prod(expected):
        return f"The number of values is the same: reshape the samples, x.reshape(-1, {', '.join(map(str, expected))})."
    if len(shape) == len(expected) == 2 and shape[1] == expected[1]:
        return (
            "Its series have another number of steps, and this model was trained on series of one length: cut or "
            "resample them."
        )
    if len(expected) == 3 or (model.data.ranges is not None and model.data.ranges.kind == "images"):
        return "Resize the images to the size of the training images."
    return "Prepare the samples as the training data were."


def _cause_of_width(found: int, expected: int, rows: int) -> str:
    if rows == expected:
        return "Its axes may be swapped: save x.T, one row per sample."
    if found == expected + 1:
        return "One column too many: is the column of labels, or an index, still there? Remove it."
    if found == expected - 1:
        return "One column is missing."
    return f"{abs(found - expected)} columns {'too many' if found > expected else 'are missing'}."
