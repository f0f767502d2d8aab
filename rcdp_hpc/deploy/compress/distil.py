"""Training of a smaller network on the probabilities of a trained model: the settings of the new run."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch

from rcdp_hpc.config import Config, with_settings
from rcdp_hpc.config.choices import readout_choice
from rcdp_hpc.deploy.compress.task import CompressTask
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.model_size import NOWHERE
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.networks.readouts import build_readout

log = logging.getLogger(__name__)

# Settings that are widths of a network: the sizes of its layers.
WIDTHS = ("readout.outputs", "readout.hidden", "extractor.channels")
# Steps of the bisection, which finds the factor of all widths to 1 / 1000.
BISECTIONS = 12
LEAST_WIDTH = 2


def distil_changes(task: CompressTask) -> dict[str, Any]:
    """Return the settings, by dotted key, with which a training learns from the model of ``task.source``.

    The model is the teacher, unless the user names others (``loss.teacher``). With ``keep`` below 1 all widths of the
    network are multiplied by one factor, so that it has at most this share of the numbers that are trained; widths that
    the user sets stay.

    Called on rank 0 only.

    Raises
    ------
    InputError
        If no gradient steps train the new readout, or no network is as small as that.
    DataDamagedError
        If the model file is damaged.
    """
    config = task.config
    if not config.readout.trained:
        raise InputError(
            f"distil: gradient steps imitate a teacher, and readout.kind = {config.readout.kind!r} is solved. Choose "
            "a trained readout for the new model, for example --set readout.kind=network, or reduce the solved one "
            "(--keep without --distil)."
        )
    file = ModelFile.read(task.source.model)
    changes: dict[str, Any] = {}
    # A teacher that the old model learned from is not one that the user asks for.
    if not config.loss.teacher or config.loss.teacher == file.config.loss.teacher:
        changes["loss.teacher"] = [str(task.source.model)]
    if task.options.keep < 1:
        changes |= _narrower(task, file)
    elif trained_numbers(config, file.sample_shape, len(file.classes)) >= _stored_numbers(file):
        log.warning("distil: the new network is not smaller than the old one; keep = 0.1 or other widths make it so")
    return changes


def trained_numbers(config: Config, sample_shape: Sequence[int], classes: int) -> int:
    """Return the numbers of a network that gradient steps train, of the extractor and the readout.

    Parameters
    ----------
    config : Config
    sample_shape : sequence of int
        Shape of one sample.
    classes : int
        Number of classes.
    """
    with NOWHERE:
        extractor = extractor_of(config, sample_shape)
        readout = build_readout(config, extractor.feature_shape(), classes, seed=0)
        parts: list[torch.nn.Module | None] = [readout, extractor.trained_part()]
        return sum(value.numel() for part in parts if part is not None for value in part.parameters())


def _narrower(task: CompressTask, file: ModelFile) -> dict[str, Any]:
    """Return widths with which the network has at most the share ``keep`` of the numbers of the old one."""
    config, classes = task.config, len(file.classes)
    widths = {key: _value(config, key) for key in WIDTHS if _is_width(config, key)}
    chosen = {key for key, value in widths.items() if value != _value(file.config, key)}
    free = {key: value for key, value in widths.items() if key not in chosen}
    before = _stored_numbers(file)

    def scaled(factor: float) -> dict[str, Any]:
        return {key: _scaled(config, key, value, factor) for key, value in free.items()}

    def numbers(factor: float) -> int:
        narrower = with_settings(config, scaled(factor), f"of {task.target.path}")
        return trained_numbers(narrower, file.sample_shape, classes)

    most = task.options.keep * before
    if numbers(1.0) <= most:
        return {}
    low, high = 0.0, 1.0
    if not free:
        raise InputError(
            f"keep = {task.options.keep:g}: the new network has {numbers(low):,} trained numbers, the old one "
            f"{before:,}, and no width is left to choose. Set smaller sizes yourself (--set), without keep."
        )
    if numbers(low) > most:
        raise InputError(
            f"keep = {task.options.keep:g}: with widths of {LEAST_WIDTH} the network still has {numbers(low):,} of the "
            f"{before:,} numbers of the old one. Choose a larger keep, or fewer inputs of the readout, for example "
            f"--set reservoir.nodes={max(1, config.reservoir.nodes // 4)}."
        )
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if numbers(middle) <= most else (low, middle)
    log.info(
        "distil: %s; %s trained numbers instead of %s",
        *(", ".join(f"{key} = {value}" for key, value in scaled(low).items()), f"{numbers(low):,}", f"{before:,}"),
    )
    return scaled(low)


def _stored_numbers(file: ModelFile) -> int:
    """Return the numbers of the old model that are trained or solved."""
    members = {name.split(".")[1] for name in file.weights if name.startswith("members.")}
    return trained_numbers(file.config, file.sample_shape, len(file.classes)) * max(1, len(members))


def _is_width(config: Config, key: str) -> bool:
    if key == "extractor.channels":
        return config.extractor.kind == "convolution"
    return key in readout_choice(config.readout.kind).keys


def _value(config: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def _scaled(config: Config, key: str, value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [max(LEAST_WIDTH, round(factor * one)) for one in value]
    # Each head of a transformer reads an equal share of the outputs.
    multiple = config.readout.heads if key == "readout.outputs" and config.readout.kind == "transformer" else 1
    least = multiple * math.ceil(LEAST_WIDTH / multiple)
    return max(least, multiple * round(factor * value / multiple))
