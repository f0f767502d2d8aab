"""Training of a model on the outputs of another one."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.deploy.compress.task import CompressTask
from rcdp_hpc.errors import InputError


def distil_changes(task: CompressTask) -> dict[str, Any]:
    """Return the settings, by dotted key, with which a training learns from the model of ``task.source``.

    Called on rank 0 only.

    Raises
    ------
    InputError
        If the model cannot teach the new one.
    """
    raise InputError("distil: models do not learn from other models yet")
