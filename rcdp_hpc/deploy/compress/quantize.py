"""Weights of 8 bits: plain rounding if it costs little, otherwise a short training with rounded weights.

A matrix or kernel becomes integers from -127 to 127 with a scale for each output channel
(`rcdp_hpc.model.packing.Quantized`). What rounding costs is measured on the validation rows: the test rows decide
nothing.
"""

from __future__ import annotations

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.config import Config, parse_config, to_tree, with_settings
from rcdp_hpc.data.shards.reader import ShardReader, open_shards
from rcdp_hpc.data.split import slab_bounds
from rcdp_hpc.deploy.compress.task import CompressTask
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.quantization import is_rounded, rounded_model
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.code_consent import code_named_by
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, run_on_root
from rcdp_hpc.runtime.device import device
from rcdp_hpc.runtime.digests import file_sha256, read_sealed, write_sealed
from rcdp_hpc.runtime.files import os_errors_explained, write_atomic
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.resume_file import read_checkpoint

log = logging.getLogger(__name__)

# Share of the validation rows that plain rounding may cost before the network is trained with rounded weights.
MOST_COST = 0.002
# Share of the epochs, and of the learning rate, of the training with rounded weights that follows a training.
FINE_TUNING = 0.1
BLOCK_ROWS = 4096
_REMEDY = "Remove it and start rcdp compress again."


def round_model(task: CompressTask) -> Config | None:
    """Replace the model of ``task.target`` by one with weights of 8 bits, if that costs little. Collective.

    All matrices and kernels are rounded: of the readout, of the extractor, whether trained or learned, and of the
    reservoir if they are the user's own. A reservoir that follows from its seed is not stored.

    Returns
    -------
    Config or None
        Settings of the training with rounded weights, if plain rounding costs more than `MOST_COST` and gradient steps
        train the network. The model then stays as it is.

    Raises
    ------
    InputError
        If the model names code that is not allowed.
    DataDamagedError
        If model or shards are damaged.
    """
    comm, target = task.comm, task.target
    shards = agree(comm, lambda: open_shards(task.config, target.shards))
    own_code = code_named_by(task.config).values()
    where = agree(comm, lambda: device(task.config.training.device))
    model = agree(comm, lambda: TrainedModel.load(target.model, where, own_code=own_code))
    rounded = agree(comm, lambda: TrainedModel(rounded_model(model.file), where))
    before = validation_accuracy(model, shards, comm)
    after = validation_accuracy(rounded, shards, comm)
    for line in _lines(model.file, rounded.file):
        log.info("%s", line)
    log.info("validation accuracy %.2f %%, with weights rounded to 8 bits %.2f %%", 100 * before, 100 * after)
    too_much, untrained = before - after > MOST_COST, _untrained(task.config)
    if too_much and not untrained:
        log.info("rounding costs more than %.1f points: training with rounded weights", 100 * MOST_COST)
        return run_on_root(comm, partial(_record_fine_tuning, task, model.file, before))
    if too_much:
        log.warning("rounding costs %.2f points, and no training follows: %s", 100 * (before - after), untrained)
    agree_on_root(comm, partial(_write, task, shards, rounded.file, before, after))
    return None


def _untrained(config: Config) -> str:
    """Return why a model is not trained with rounded weights; empty if it can be."""
    if not config.readout.trained:
        return f"readout.kind = {config.readout.kind!r} is solved"
    return "the networks of an ensemble do not start from a model" if config.parallel.replicas == "ensemble" else ""


def fine_tuning(task: CompressTask) -> Config | None:
    """Return the settings of a training with rounded weights that an earlier call began; None if there is none.

    Called on rank 0 only.

    Raises
    ------
    InputError
        If it belongs to another model or other options.
    DataDamagedError
        If its record is damaged.
    """
    path = _record_file(task.target)
    if not path.exists():
        return None
    record = read_sealed(path, _REMEDY)
    if record.get("made_with") != _made_with(task):
        raise InputError(
            f"{path}: a training with rounded weights of another model, or with other options, began here. Choose "
            "another folder for the smaller model, or remove this one."
        )
    return parse_config(record["settings"], where=str(path))


def starts_over(task: CompressTask) -> bool:
    """Return whether the checkpoint of the new run is that of the training before the rounding.

    Called on rank 0 only.
    """
    saved = read_checkpoint(task.target.train)
    return saved is not None and saved.settings["training"]["weight_bits"] != 8


def validation_accuracy(model: TrainedModel, shards: ShardReader, comm: Communicator) -> float:
    """Return the share of the validation rows that a model classifies correctly. Collective.

    Each rank predicts a part of the rows.
    """

    def correct() -> int:
        start, stop = slab_bounds(shards.rows("validation"), comm.rank, comm.size)
        count = 0
        for low in range(start, stop, BLOCK_ROWS):
            signals.raise_if_stopped("measuring the accuracy")
            rows = shards.read("validation", low, min(low + BLOCK_ROWS, stop))
            predicted = model.probabilities(rows.x, scaled=True, lengths=rows.length).argmax(1)
            count += int((predicted == rows.y).sum())
        return count

    total = comm.allreduce(np.array([agree(comm, correct)]))
    return int(total[0]) / shards.rows("validation")


def _lines(file: ModelFile, rounded: ModelFile) -> list[str]:
    """Return what is rounded, and what costs nothing."""
    codes = rounded.quantized.values()
    numbers, scales = sum(one.codes.size for one in codes), sum(len(one.scale) for one in codes)
    tensors = [*file.weights.values(), *file.learned.values()]
    rest = sum(value.numel() for value in tensors if value.is_floating_point() and not is_rounded(value))
    lines = [f"8 bits: {numbers:,} numbers with {scales:,} scales; {rest:,} numbers of vectors keep 32 bits"]
    reservoir = file.config.reservoir
    if reservoir.kind != "none" and file.matrices is None:
        lines.append(
            f"the reservoir of {reservoir.nodes:,} nodes follows from reservoir.seed = {reservoir.seed}: 0 bytes stored"
        )
    return lines


def _write(task: CompressTask, shards: ShardReader, rounded: ModelFile, before: float, after: float) -> None:
    """Write the rounded model, and record its accuracy as that of the training."""
    config, target = _with_matrices_of(rounded.config, task), task.target
    if config.readout.trained:
        training = config.training.model_copy(update={"weight_bits": 8})
        config = config.model_copy(update={"training": training})
    if not rounded.rule.is_plain:
        log.info("calibration, priors, thresholds and costs are those of the model before the rounding")
    ModelFile.write(
        target.model, config, shards, rounded.weights, rounded.learned, quantized=rounded.quantized, rule=rounded.rule
    )
    result: dict[str, Any] = target.state("train").get("result") or {}
    # The loss is that of the weights before the rounding.
    kept = {name: value for name, value in result.items() if name != "validation_loss"}
    if config.readout.trained:
        kept["validation_accuracy"] = after
    elif "validation_accuracy" in kept:
        # It may be that of left-out rows.
        kept["validation_accuracy"] += after - before
    target.record_state("train", "done", result=kept)


def _with_matrices_of(config: Config, task: CompressTask) -> Config:
    """Return settings that name the user's matrices where they are: at their path, or as the copy of a run."""
    given = config.reservoir.matrices
    if not given or Path(given).exists():
        return config
    copies = [run.matrices for run in (task.target, task.source) if run.matrices.exists()]
    reservoir = config.reservoir.model_copy(update={"matrices": str(next(iter(copies), given))})
    return config.model_copy(update={"reservoir": reservoir})


def _record_fine_tuning(task: CompressTask, file: ModelFile, accuracy: float) -> Config:
    """Keep the model before the rounding, and record the settings of the training that starts from it."""
    initial = task.target.path / "float32.pt"
    with os_errors_explained(task.target.model), task.target.model.open("rb") as model:
        write_atomic(initial, lambda copy: shutil.copyfileobj(model, copy))
    config = with_settings(task.target.config(), _changes(task, file, initial), f"of {task.target.path}")
    record = {"settings": to_tree(config), "validation_accuracy": accuracy, "made_with": _made_with(task)}
    write_sealed(_record_file(task.target), record)
    return config


def _changes(task: CompressTask, file: ModelFile, initial: Path) -> dict[str, Any]:
    config = file.config
    changes: dict[str, Any] = {
        "training.weight_bits": 8,
        "training.initial": str(initial),
        "optimizer.learning_rate": FINE_TUNING * config.optimizer.learning_rate,
        "schedule.warmup_epochs": 0.0,
        "schedule.warmup_steps": 0,
    }
    # Epochs that the user asks for are those of this training, if it is the only one.
    alone = task.options.keep == 1 and not task.options.distil
    if not alone or task.config.training.epochs == _source_epochs(task):
        changes["training.epochs"] = max(1, round(FINE_TUNING * config.training.epochs))
    if config.pruning.active:
        # The weights that are zero stay zero.
        matrices = [value for value in file.weights.values() if is_rounded(value)]
        left = sum(int(value.count_nonzero()) for value in matrices) / sum(value.numel() for value in matrices)
        changes |= {"pruning.method": "magnitude", "pruning.keep": left, "pruning.epochs": 0}
    return changes


def _source_epochs(task: CompressTask) -> int:
    return ModelFile.read(task.source.model).config.training.epochs


def _record_file(target: RunDirectory) -> Path:
    return target.path / "rounding.json"


def _made_with(task: CompressTask) -> dict[str, Any]:
    """Return what a compression is determined by, for a call that continues it."""
    options = task.options
    return {
        "model": file_sha256(task.source.model),
        "keep": options.keep,
        "unit": options.unit,
        "distil": options.distil,
        "settings": to_tree(task.config),
    }
