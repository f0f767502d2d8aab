"""The content of a training checkpoint, ``RUN/train/last.pt``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from rcdp_hpc.training.history import Mark, Record
from rcdp_hpc.training.report import Position

Weights = Mapping[str, torch.Tensor]
# Fields of `TrainingCheckpoint` that are stored as JSON text.
JSON_FIELDS = ("settings", "limits", "code", "best", "replaced", "load_balance", "notes")


@dataclass(frozen=True, eq=False)
class ReplicaState:
    """The network of one rank and its optimiser's state (``parallel.replicas``).

    Attributes
    ----------
    network : mapping of str to torch.Tensor
    optimizer : dict
        As `torch.optim.Optimizer.state_dict` returns it.
    """

    network: Weights
    optimizer: dict[str, Any]


@dataclass(frozen=True, eq=False)
class TrainerState:
    """Everything that a `Trainer` needs to continue with the same bits.

    Attributes
    ----------
    position : Position
        Epoch, step, and the sums of the epoch that are equal on all ranks.
    partial_sums : list of list of float
        For each rank, its sums over the epoch so far: loss, correct rows, and rows of each class.
    network : mapping of str to torch.Tensor
        Weights and running statistics; those of rank 0 with independent replicas.
    optimizer : dict
        As `torch.optim.Optimizer.state_dict` returns it.
    replicas : list of ReplicaState
        One for each rank with independent replicas, otherwise empty.
    average : mapping of str to torch.Tensor
        Moving average of the weights; empty without one.
    learning_rate : dict
        As `LearningRate.state` returns it.
    loss_scale : list of float
        As `LossScale.state` returns it.
    gradients : dict
        As `GradientNorms.state` returns it; empty if gradients are not measured.
    pruning : mapping of str to torch.Tensor
        As `Pruner.state` returns it; empty if no weights are removed.
    best_weights : mapping of str to torch.Tensor
        Weights of the epoch with the lowest validation loss.
    """

    position: Position
    partial_sums: list[list[float]]
    network: Weights
    optimizer: dict[str, Any]
    replicas: list[ReplicaState]
    average: Weights
    learning_rate: dict[str, Any]
    loss_scale: list[float]
    gradients: dict[str, Any]
    pruning: Weights
    best_weights: Weights

    def content(self) -> dict[str, Any]:
        """Return the state as dicts, lists, tensors and numbers, for a file."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        replicas = [{"network": one.network, "optimizer": one.optimizer} for one in self.replicas]
        return {**values, "position": asdict(self.position), "replicas": replicas}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> TrainerState:
        """Return the state with the content that `content` returned."""
        replicas = [ReplicaState(**one) for one in content["replicas"]]
        names = [field.name for field in fields(cls)]
        values = {name: content[name] for name in names}
        return cls(**{**values, "position": Position(**content["position"]), "replicas": replicas})


@dataclass(frozen=True, eq=False)
class TrainingCheckpoint:
    """A training under way.

    Attributes
    ----------
    settings : dict
        Settings that decide the trained weights, by section.
    limits : dict
        Settings that decide when the training ends.
    code : dict of str to str
        SHA-256 of each of the user's modules that the settings name.
    ranks, threads, global_batch, partition_count : int
        Ranks, threads per rank, rows of a step over all ranks, and partitions.
    rows : int
        Training rows over all ranks.
    shards : str
        Digest of the shards.
    best : dict of str to float
        Validation loss and accuracy of the best epoch.
    replaced : dict
        Shards that were left out because they are damaged.
    load_balance : dict
        ``kind``, the value of ``partition.load_balance``, and ``rank_speeds``, the speeds in use.
    notes : dict
        Entries for the state file of the stage.
    trainer : TrainerState
    metrics, class_counts : list of dict
        Lines of ``metrics.jsonl`` and ``class_counts.jsonl`` up to the checkpoint.
    """

    settings: dict[str, Any]
    limits: dict[str, float]
    code: dict[str, str]
    ranks: int
    threads: int
    global_batch: int
    partition_count: int
    rows: int
    shards: str
    best: dict[str, float]
    replaced: dict[str, Any]
    load_balance: dict[str, Any]
    notes: dict[str, Any]
    trainer: TrainerState
    metrics: list[Record]
    class_counts: list[Record]

    def content(self, marks: Mapping[str, Mark]) -> dict[str, Any]:
        """Return the checkpoint as dicts, lists, tensors, numbers and texts, for a file.

        Parameters
        ----------
        marks : mapping of str to dict
            For each history file, what `History.mark` returns; the file refers to the lines instead of repeating them.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in marks}
        texts = {name: json.dumps(values[name]) for name in JSON_FIELDS}
        return {**values, **texts, "history": dict(marks), "trainer": self.trainer.content()}
