"""Pruning of models that gradient steps train: the settings with which the new run is trained."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.deploy.compress.task import CompressTask
from rcdp_hpc.errors import InputError


def pruning_changes(task: CompressTask) -> dict[str, Any]:
    """Return the settings, by dotted key, with which the training in ``task.target`` makes the model smaller.

    Called on rank 0 only. It may write files to ``task.target``.

    Raises
    ------
    InputError
        If the model cannot be reduced this way.
    """
    raise InputError(f"unit = {task.options.unit!r}: trained models are not reduced yet")
