"""The program of a trained model."""

from __future__ import annotations

from rcdp_hpc.deploy.export.program import Program
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.trained_model import TrainedModel


def lower(model: TrainedModel, varying_steps: bool) -> Program:
    """Return the program that computes what a trained model computes, in float32.

    Parameters
    ----------
    model : TrainedModel
    varying_steps : bool
        Whether the model reads series of unequal length.

    Raises
    ------
    InputError
        If a part of the model cannot be written as operations, such as a class of the user's own.
    """
    raise InputError("no part of a model can be written as operations yet")
