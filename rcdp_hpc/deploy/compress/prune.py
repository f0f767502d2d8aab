"""Pruning of models that gradient steps train: the settings with which the new run is trained."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.config import Config
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
    unit, config = task.options.unit, task.config
    if config.parallel.replicas == "ensemble":
        raise InputError(
            "parallel.replicas = 'ensemble': the networks of an ensemble are not pruned; train one network"
        )
    if unit == "weights":
        # Gates close by their penalty, not to a given share.
        share = {"pruning.keep": task.options.keep} if config.pruning.method == "magnitude" else {}
        return {
            **share,
            "pruning.epochs": removal_epochs(config),
            "training.initial": str(task.source.model),
        }
    raise InputError(f"unit = {unit!r}: a trained readout loses weights or units")


def removal_epochs(config: Config) -> int:
    """Return the epochs in which weights are removed: those of the settings, but at most half of the training."""
    return min(config.pruning.epochs, config.training.epochs // 2)
