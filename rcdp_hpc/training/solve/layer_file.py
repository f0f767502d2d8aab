"""The layers that are already solved, in a file from which an interrupted solution continues."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.fields import Fields, refuse_other_shapes
from rcdp_hpc.runtime.files import os_errors_explained

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LayerFile:
    """A checkpoint of a solution in several steps.

    Attributes
    ----------
    path : Path
    made_with : str
        Settings and data that determine the layers, as text.
    """

    path: Path
    made_with: str

    def load(self, expected: Mapping[str, torch.Tensor]) -> tuple[int, dict[str, torch.Tensor]] | None:
        """Return the number of solved steps and the state of the network; None if there is none for these settings.

        Parameters
        ----------
        expected : mapping of str to torch.Tensor
            A state of the network, for the shapes.
        """
        if not os.path.lexists(self.path):
            return None
        try:
            fields = Fields(str(self.path), checkpoint.load(self.path), "")
            if fields.text("made_with") != self.made_with:
                return None
            state = fields.tensors("state")
            refuse_other_shapes(str(self.path), state, expected, "")
            return fields.integer("solved"), state
        except DataDamagedError as error:
            log.warning("%s The layers are solved again, to the same bits.", error)
            return None

    def save(self, solved: int, state: Mapping[str, torch.Tensor]) -> None:
        """Write the number of solved steps and the state of the network."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu() for name, value in state.items()}
        checkpoint.save(self.path, {"made_with": self.made_with, "solved": solved, "state": tensors})

    def remove(self) -> None:
        """Remove the file and the one before it."""
        for path in (self.path, checkpoint.previous_of(self.path)):
            with os_errors_explained(path):
                path.unlink(missing_ok=True)
