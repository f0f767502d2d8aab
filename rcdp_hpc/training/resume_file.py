"""The training checkpoint as a checked record: read in one place, so that nothing in it is believed later."""

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

# The state of an optimiser: values by name, by the index of the weights.
State = Mapping[int, Mapping[str, Any]]

TRAIN_AGAIN = "Use --restart to train again."


def read_resume(folder: Path) -> dict[str, Any] | None:
    """Return the newest sound checkpoint of ``RUN/train``, None if there is none.

    Of its key "history" the marks of both files are replaced by their records.

    Raises
    ------
    DataDamagedError
        If all are damaged, or anything in the newest sound one is not as a training would have written it.
    """
    saved = checkpoint.load_latest(folder / "last.pt")
    if saved is None:
        return None
    fields = Fields(str(folder / "last.pt"), saved, TRAIN_AGAIN)
    _check_run(fields)
    trainer = fields.part("trainer")
    _check_position(trainer)
    _check_state(trainer)
    history = fields.part("history")
    records = {}
    for name in ("metrics", "class_counts"):
        mark = history.part(name)
        mark.integer("lines")
        mark.text("sha256")
        records[name] = marked_records(folder / f"{name}.jsonl", dict(mark.content))
    return {**saved, "history": records}


def _check_run(fields: Fields) -> None:
    """See that what is said of settings, ranks and rows has the expected types."""
    for name in ("settings", "limits", "code", "replaced", "notes", "allotment", "best"):
        fields.json(name, dict, "a table")
    for name in ("ranks", "threads", "global_batch", "slab_count", "rows"):
        fields.integer(name, 1)
    fields.text("shards")
    allotment = fields.json("allotment", dict, "a table")
    speeds = allotment.get("speeds")
    sound = isinstance(speeds, list) and all(type(speed) in (int, float) and speed > 0 for speed in speeds)
    if type(allotment.get("kind")) is not str or not sound:
        fields.refuse("allotment", "that of the ranks: kind and speeds")


def _check_position(trainer: Fields) -> None:
    """See that the position has all fields of `Position`, each of its type."""
    position = trainer.part("position")
    if set(position.content) != {field.name for field in fields_of(Position)}:
        trainer.refuse("position", "that of a training")
    for field in fields_of(Position):
        value = position.content[field.name]
        allowed = (int, float) if field.type == "float" else ({"int": int, "str": str}[str(field.type)],)
        # The best loss is infinite until an epoch is done.
        if type(value) not in allowed or (isinstance(value, float) and math.isnan(value)):
            position.refuse(field.name, f"of the type {field.type}")
    for name in ("epoch", "step", "skipped_steps", "skipped_rows"):
        position.integer(name)
    if position.content["best_epoch"] < -1:
        position.refuse("best_epoch", "an epoch")


def _check_state(trainer: Fields) -> None:
    """See that weights are finite tensors, and that the rest has the expected types."""
    for name in ("network", "average", "best_weights"):
        trainer.tensors(name)
    trainer.field("optimizer", dict, "the state of an optimizer")
    trainer.field("gradients", dict, "a table")
    learning_rate = trainer.part("learning_rate")
    learning_rate.number("reduction")
    schedule = learning_rate.field("schedule", dict, "a table of numbers")
    if not all(type(name) is str and type(x) in (int, float) and not math.isnan(x) for name, x in schedule.items()):
        learning_rate.refuse("schedule", "a table of numbers")
    _check_numbers(trainer, "loss_scale", [trainer.field("loss_scale", list, "a list")], 2)
    sums = trainer.field("partial_sums", list, "a list")
    if not sums:
        trainer.refuse("partial_sums", "a list for each rank")
    _check_numbers(trainer, "partial_sums", sums, len(sums[0]) if isinstance(sums[0], list) else 0)
    for one in trainer.field("slices", list, "a list of networks"):
        own = Fields(trainer.where, {"slices": one}, trainer.remedy, trainer.prefix).part("slices")
        own.tensors("network")
        own.field("optimizer", dict, "the state of an optimizer")


def _check_numbers(fields: Fields, name: str, rows: list[Any], length: int) -> None:
    for row in rows:
        sound = isinstance(row, list) and len(row) == length and all(type(value) in (int, float) for value in row)
        if not sound or length < 2:
            fields.refuse(name, "lists of numbers")


def first_optimizer_state(config: Config, network: nn.Module) -> State:
    """Return the state of the configured optimiser after one step of a copy of a network, with gradients of 0.

    The result has the shapes that a checkpoint of the same training must have.
    """
    network = copy.deepcopy(network)
    optimizer = make_optimizer(config, network)
    for weights in network.parameters():
        weights.grad = torch.zeros_like(weights) if weights.requires_grad else None
    optimizer.step()
    state: State = optimizer.state_dict()["state"]
    return state


def check_optimizer_state(optimizer: torch.optim.Optimizer, expected: State) -> None:
    """Raise a `ValueError` if the state of a restored optimiser does not fit its weights.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    expected : mapping of int to dict
        A state with the expected shapes, by the index of the weights (`first_optimizer_state`).
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
    """Raise what goes wrong while a checkpoint is put into a trainer as a `DataDamagedError` about the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        text = " ".join(str(error).split())[:300]
        raise DataDamagedError(
            f"{path}: does not fit the training that its settings lead to ({type(error).__name__}: {text}). "
            f"{TRAIN_AGAIN}"
        ) from None
