"""Pruning of models that gradient steps train: the settings with which the new run is trained."""

from __future__ import annotations

from typing import Any

import torch

from rcdp_hpc.config import Config, with_settings
from rcdp_hpc.config.choices import READOUTS
from rcdp_hpc.data.shards.reader import open_shards
from rcdp_hpc.deploy.compress.nodes import refuse_fixed_nodes, smaller_reservoir
from rcdp_hpc.deploy.compress.task import CompressTask
from rcdp_hpc.deploy.compress.unit_layout import nodes_of
from rcdp_hpc.deploy.compress.units import without_nodes, without_units
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile

# The model with fewer units, in the new run directory.
INITIAL = "initial.pt"


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
        raise InputError("parallel.replicas = 'ensemble': an ensemble is not pruned; train one network instead")
    if unit == "weights":
        # Gates close by their penalty, not to a given share.
        share = {"pruning.keep": task.options.keep} if config.pruning.method == "magnitude" else {}
        return {
            **share,
            "pruning.epochs": removal_epochs(config),
            "training.initial": str(task.source.model),
        }
    if unit == "units":
        return _narrower(task)
    if unit == "nodes":
        return _fewer_nodes(task)
    raise InputError(
        f"unit = {unit!r} with readout.kind = {config.readout.kind!r}: choose 'weights', 'units' or 'nodes'"
    )


def removal_epochs(config: Config) -> int:
    """Return the epochs in which weights are removed: those of the settings, but at most half of the training."""
    return min(config.pruning.epochs, config.training.epochs // 2)


def _narrower(task: CompressTask) -> dict[str, Any]:
    """Write the model with fewer units, from which the training starts; return its settings."""
    file = ModelFile.read(task.source.model)
    narrow = without_units(task.config, file.weights, task.options.keep)
    return _with_initial(task, file, narrow.weights, narrow.changes)


def _fewer_nodes(task: CompressTask) -> dict[str, Any]:
    """Write the smaller reservoir, and the network that reads it, from which the training starts."""
    file, config = ModelFile.read(task.source.model), task.config
    refuse_fixed_nodes(config)
    if config.readout.kind not in READOUTS:
        raise InputError(f"unit = 'nodes' with readout.kind = {config.readout.kind!r}: choose unit = 'weights'")
    if config.reservoir.matrices:
        config = with_settings(config, {"reservoir.matrices": str(task.source.matrices)}, f"of {task.target.path}")
    nodes = nodes_of(config.reservoir.nodes, file.weights)
    kept, narrow = without_nodes(nodes, file.weights, task.options.keep)
    changes = smaller_reservoir(config, file.sample_shape, kept.numpy(), task.target.matrices)
    return _with_initial(task, file, narrow, changes)


def _with_initial(
    task: CompressTask, file: ModelFile, weights: dict[str, torch.Tensor], changes: dict[str, Any]
) -> dict[str, Any]:
    """Write a model from which the training of the new run starts; return the changes with its name."""
    initial = task.target.path / INITIAL
    changes = {**changes, "training.initial": str(initial)}
    config = with_settings(task.config, changes, f"of {task.target.path}")
    ModelFile.write(initial, config, open_shards(config, task.target.shards), weights, file.learned)
    return changes
