"""Exported models as safetensors files, for those who build the network themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.base import Probabilities, Writer
from rcdp_hpc.deploy.export.export import in_single_precision
from rcdp_hpc.deploy.export.extra import import_extra
from rcdp_hpc.deploy.export.program import Program
from rcdp_hpc.deploy.export.safetensors_file import SUFFIX, read_safetensors, write_safetensors
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.trained_model import TrainedModel


class SafetensorsWriter(Writer):
    """The weights as a safetensors file; settings, classes and the facts about the data are its metadata.

    A matrix that follows from the seed of the settings is not in the file.

    Raises
    ------
    InputError
        If the package safetensors is not installed.
    """

    name = SUFFIX
    holds_rule = True

    def __init__(self) -> None:
        import_extra("safetensors", self.name)

    def write(self, program: Program, model: ModelFile, path: Path) -> list[Path]:
        """Write the file; as `Writer.write`."""
        write_safetensors(Path(model.where), path)
        return [path]

    def predict(self, path: Path, samples: NDArray[Any], lengths: NDArray[np.int64] | None) -> Probabilities:
        """Return the probabilities of the model that is read back; as `Writer.predict`."""
        model = TrainedModel(in_single_precision(read_safetensors(path)))
        return model.answers(samples, scaled=False, lengths=lengths).probabilities
