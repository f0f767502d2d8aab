"""A model file like another one, with other weights: models that are merged, updated or averaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.fields import Fields
from rcdp_hpc.model.model_file import TRAIN_AGAIN
from rcdp_hpc.model.packed_fields import unpacked


def write_derived(path: Path, like: Path, weights: Mapping[str, torch.Tensor], shards: str) -> None:
    """Write a model file atomically. It has no calibration, priors, thresholds and costs: they belong to `like`.

    Parameters
    ----------
    path : Path
    like : Path
        The model file whose settings, classes and facts about the data it gets.
    weights : mapping of str to torch.Tensor
        State of the readout network.
    shards : str
        Digest of the data that the weights come from.

    Raises
    ------
    DataDamagedError
        If the file `like` is damaged.
    """
    fields, _ = unpacked(Fields(str(like), checkpoint.load(like, TRAIN_AGAIN), TRAIN_AGAIN))
    left_out = ("format", "packed", "prediction")
    content = {name: value for name, value in fields.content.items() if name not in left_out}
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(
        path, {**content, "weights": {name: value.cpu() for name, value in weights.items()}, "shards": shards}
    )
