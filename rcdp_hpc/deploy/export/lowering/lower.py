"""The program of a trained model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import rcdp_hpc
from rcdp_hpc.config import TRAINING_SECTIONS, to_tree
from rcdp_hpc.deploy.export.lowering.answers import lower_answers
from rcdp_hpc.deploy.export.lowering.builder import Builder, Weights
from rcdp_hpc.deploy.export.lowering.networks import lower_probabilities
from rcdp_hpc.deploy.export.lowering.samples import lower_samples, sample_dtype
from rcdp_hpc.deploy.export.lowering.sources import lower_source
from rcdp_hpc.deploy.export.program import Program
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile, named_code
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.networks.end_to_end import EndToEnd
from rcdp_hpc.networks.ensemble import Ensemble


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
    refuse_user_classes(model.file)
    builder = Builder(varying_steps, model.file.quantized.values())
    x = lower_samples(builder, model)
    network = model.network
    first = network.members[0] if isinstance(network, Ensemble) else network
    if not isinstance(first, EndToEnd):
        x = lower_source(builder, model, x)
    weights = Weights(model.file.weights)
    config = model.file.config
    raw, z = lower_probabilities(builder, config, network, weights, x)
    output, decision = lower_answers(builder, config, model.rule, raw, z)
    return Program(
        sample_shape=tuple(model.raw_shape),
        classes=tuple(model.classes),
        ops=tuple(builder.ops),
        constants=builder.constants,
        output=output,
        decision=decision,
        varying_steps=varying_steps,
        sample_dtype=sample_dtype(model),
        facts=_facts(model),
    )


def refuse_user_classes(file: ModelFile) -> None:
    """Raise an `InputError` if a model needs code of the user's own."""
    for key, name in named_code(file.config).items():
        raise InputError(
            f"{key} = {name!r} is a class of your own, whose Python code an exported file cannot hold: predict with "
            "rcdp, or train with a value of the table of this key"
        )


def _facts(model: TrainedModel) -> dict[str, Any]:
    """Return what texts and the reading of new samples need."""
    file, data = model.file, model.data
    tree = to_tree(file.config)
    return {
        "version": rcdp_hpc.__version__,
        "scale": file.scale,
        "probabilities": model.rule.column,
        "answers": model.rule.describe(),
        "shards": file.shards,
        "settings": {section: tree[section] for section in TRAINING_SECTIONS},
        "columns": None if data.columns is None else asdict(data.columns),
        "standardization": None if data.standardization is None else data.standardization.to_json(),
        "ranges": None if data.ranges is None else data.ranges.to_json(),
        "reading": None if data.reading is None else data.reading.model_dump(),
    }
