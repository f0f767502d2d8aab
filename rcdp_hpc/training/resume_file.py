"""Reading the training checkpoint: every field is checked here, so that later code can rely on it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rcdp_hpc.config import Config
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.fields import Fields
from rcdp_hpc.runtime.ram import is_out_of_memory
from rcdp_hpc.training.history import marked_records
from rcdp_hpc.training.optim.optimizers import make_optimizer
from rcdp_hpc.training.report import Position
from rcdp_hpc.training.training_checkpoint import JSON_FIELDS, TrainerState, TrainingCheckpoint

# The state of an optimiser: values by name, by the index of the weights.
OptimizerState = Mapping[int, Mapping[str, Any]]

TRAIN_AGAIN = "Use --restart to train again."


def read_checkpoint(folder: Path) -> TrainingCheckpoint | None:
    """Return the newest undamaged checkpoint of ``RUN/train``, with the history up to it; None if there is none.

    Raises
    ------
    DataDamagedError
        If all checkpoints are damaged, or a field of the newest undamaged one is not as a training writes it.
    """
    saved = checkpoint.load_latest(folder / "last.pt")
    if saved is None:
        return None
    fields = Fields(str(folder / "last.pt"), saved, TRAIN_AGAIN)
    tables = {name: fields.json(name, dict, "a table") for name in JSON_FIELDS}
    _check_load_balance(fields, tables["load_balance"])
    trainer = fields.part("trainer")
    _complete_position(trainer)
    _check_position(trainer)
    _check_state(trainer)
    history = fields.part("history")
    records = {}
    for name in ("metrics", "class_counts"):
        mark = history.part(name)
        mark.integer("lines")
        mark.text("sha256")
        records[name] = marked_records(folder / f"{name}.jsonl", dict(mark.content))
    return TrainingCheckpoint(
        **tables,
        ranks=fields.integer("ranks", 1),
        threads=fields.integer("threads", 1),
        global_batch=fields.integer("global_batch", 1),
        partition_count=fields.integer("partition_count", 1),
        rows=fields.integer("rows", 1),
        shards=fields.text("shards"),
        trainer=TrainerState.of(trainer.content),
        metrics=records["metrics"],
        class_counts=records["class_counts"],
    )


def _check_load_balance(fields: Fields, load_balance: dict[str, Any]) -> None:
    speeds = load_balance.get("rank_speeds")
    are_speeds = isinstance(speeds, list) and all(type(speed) in (int, float) and speed > 0 for speed in speeds)
    if type(load_balance.get("kind")) is not str or not are_speeds:
        fields.refuse("load_balance", "a table of kind and rank_speeds")


def _complete_position(trainer: Fields) -> None:
    """Add what trainings of earlier versions lack, which chose the best epoch by the validation loss alone."""
    position = trainer.content.get("position")
    lacking = {"best_fitness", "least_loss", "improved_epoch"}
    if isinstance(position, dict) and not lacking & position.keys() and type(position.get("best_loss")) is float:
        loss, epoch = position["best_loss"], position.get("best_epoch")
        position.update(best_fitness=-loss, least_loss=loss, improved_epoch=epoch)


def _check_position(trainer: Fields) -> None:
    """Check that the position has all fields of `Position`, each of its type."""
    position = trainer.part("position")
    if set(position.content) != {field.name for field in fields_of(Position)}:
        trainer.refuse("position", "that of a training")
    for field in fields_of(Position):
        value = position.content[field.name]
        allowed = (int, float) if field.type == "float" else ({"int": int, "str": str}[str(field.type)],)
        # Losses and fitness are infinite until an epoch is done.
        if type(value) not in allowed or (isinstance(value, float) and math.isnan(value)):
            position.refuse(field.name, f"of the type {field.type}")
    for name in ("epoch", "step", "skipped_steps", "skipped_rows"):
        position.integer(name)
    for name in ("best_epoch", "improved_epoch"):
        if position.content[name] < -1:
            position.refuse(name, "an epoch")


def _check_state(trainer: Fields) -> None:
    """Check that weights are finite tensors, and that all other fields have the expected types."""
    for name in ("network", "average", "pruning", "best_weights"):
        trainer.tensors(name)
    trainer.field("optimizer", dict, "the state of an optimizer")
    trainer.field("gradients", dict, "a table")
    _check_learning_rate(trainer.part("learning_rate"))
    _check_numbers(trainer, "loss_scale", [trainer.field("loss_scale", list, "a list")], 2)
    sums = trainer.field("partial_sums", list, "a list")
    if not sums:
        trainer.refuse("partial_sums", "a list for each rank")
    _check_numbers(trainer, "partial_sums", sums, len(sums[0]) if isinstance(sums[0], list) else 0)
    for one in trainer.field("replicas", list, "a list of networks"):
        replica = Fields(trainer.where, {"replicas": one}, trainer.remedy, trainer.prefix).part("replicas")
        if set(replica.content) != {"network", "optimizer"}:
            trainer.refuse("replicas", "a list of networks and optimizers")
        replica.tensors("network")
        replica.field("optimizer", dict, "the state of an optimizer")


def _check_learning_rate(learning_rate: Fields) -> None:
    learning_rate.number("reduction")
    schedule = learning_rate.field("schedule", dict, "a table of numbers")
    if not all(type(name) is str and type(x) in (int, float) and not math.isnan(x) for name, x in schedule.items()):
        learning_rate.refuse("schedule", "a table of numbers")


def _check_numbers(fields: Fields, name: str, rows: list[Any], length: int) -> None:
    for row in rows:
        are_numbers = isinstance(row, list) and len(row) == length and all(type(x) in (int, float) for x in row)
        if not are_numbers or length < 2:
            fields.refuse(name, "lists of numbers")


def first_optimizer_state(config: Config, network: nn.Module) -> OptimizerState:
    """Return the state of the configured optimiser after one step of a copy of a network, with gradients of 0.

    Its tensors have the shapes that a checkpoint of the same training must have.
    """
    network = copy.deepcopy(network)
    optimizer = make_optimizer(config, network)
    for weights in network.parameters():
        weights.grad = torch.zeros_like(weights) if weights.requires_grad else None
    optimizer.step()
    state: OptimizerState = optimizer.state_dict()["state"]
    return state


def check_optimizer_state(optimizer: torch.optim.Optimizer, expected: OptimizerState) -> None:
    """Raise a `ValueError` if the state of a restored optimiser does not fit its weights.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    expected : mapping of int to mapping
        A state with tensors of the expected shapes, by the index of the weights (`first_optimizer_state`).
    """
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if not isinstance(value, torch.Tensor):
                continue
            model = expected.get(index, {}).get(name)
            if isinstance(model, torch.Tensor) and value.shape != model.shape:
                raise ValueError(f"{name} of the shape {tuple(value.shape)}, expected {tuple(model.shape)}")
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} holds NaN or infinity")


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Raise errors of the block, which restores a trainer from a checkpoint, as a `DataDamagedError` about the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        text = " ".join(str(error).split())[:300]
        raise DataDamagedError(
            f"{path}: does not fit the training that its settings describe ({type(error).__name__}: {text}). "
            f"{TRAIN_AGAIN}"
        ) from None
