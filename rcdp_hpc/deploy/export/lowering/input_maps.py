"""Extractors that reduce the features of a step: components, projections, some of the features."""

from __future__ import annotations

import numpy as np

from rcdp_hpc.deploy.export.lowering.builder import Builder
from rcdp_hpc.deploy.export.lowering.sequences import Sequences, lower_sequences
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.input_maps import FeatureSelection, InputMap, LinearMap, RandomProjection


def lower_input_map(builder: Builder, module: InputMap, x: str) -> Sequences:
    """Append an `InputMap` to samples (rows, *sample_shape).

    Raises
    ------
    InputError
        If the kind of map has no operations.
    """
    steps = module.steps
    if module.sequencer is None:
        u = builder.op("reshape", x, shape=[1, module.inputs])
    else:
        u = lower_sequences(builder, x, module.sequencer, module.sample_shape).name
    match module:
        case LinearMap():
            u = builder.affine(u, module.mean.cpu().numpy(), np.ones(1), axis=2, name="components.mean")
            u = builder.linear(u, module.matrix.cpu().numpy(), name="components")
        case RandomProjection():
            u = builder.linear(u, module.matrix.cpu().numpy(), name="projection")
        case FeatureSelection():
            chosen = builder.constant("selected", module.chosen.cpu().numpy(), np.int64)
            u = builder.op("gather", u, chosen, axis=2)
        case _:
            raise InputError(f"{type(module).__name__} has no operations and cannot be exported: predict with rcdp")
    return Sequences(u, steps, module.features)
