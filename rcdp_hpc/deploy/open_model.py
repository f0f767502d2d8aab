"""Opening a model of any file that predicts: ``model.pt``, ``.safetensors``, or ``.npz``, which needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rcdp_hpc.model.prediction_model import PredictionModel

if TYPE_CHECKING:
    from rcdp_hpc.config import DataSection
    from rcdp_hpc.model.model_file import ModelFile

EXPORTED = ".npz"
WEIGHTS = ".safetensors"


def is_exported(path: Path) -> bool:
    """Return whether a file is an exported model that needs no torch, by its suffix."""
    return path.suffix.lower() == EXPORTED


def open_model(path: Path, allow_code: bool = False) -> PredictionModel:
    """Return the model of a file.

    Parameters
    ----------
    path : Path
        A ``model.pt``, or an exported ``.npz`` or ``.safetensors``.
    allow_code : bool
        Import classes that a model file names.

    Raises
    ------
    InputError
        If there is no such file, or it names code that is not allowed.
    DataDamagedError
        If it is damaged.
    """
    if is_exported(path):
        from rcdp_hpc.deploy.export.exported_model import ExportedModel

        return ExportedModel.load(path)
    from rcdp_hpc.model.trained_model import TrainedModel

    if path.suffix.lower() == WEIGHTS:
        return TrainedModel(_weights_file(path))
    return TrainedModel.load(path, allow_code=allow_code)


def reading_of(path: Path) -> DataSection | None:
    """Return how the model of a file reads new samples; None if it does not record it."""
    if is_exported(path):
        from rcdp_hpc.deploy.export.exported_model import ExportedModel

        return ExportedModel.load(path).data.reading
    if path.suffix.lower() == WEIGHTS:
        return _weights_file(path).data.reading
    from rcdp_hpc.model.model_file import ModelFile

    return ModelFile.read(path).data.reading


def _weights_file(path: Path) -> ModelFile:
    """Return the content of a safetensors file, which may not name code: `rcdp export` writes no such file."""
    from rcdp_hpc.deploy.export.lowering import refuse_user_classes
    from rcdp_hpc.deploy.export.safetensors_file import read_safetensors

    file = read_safetensors(path)
    refuse_user_classes(file)
    return file
