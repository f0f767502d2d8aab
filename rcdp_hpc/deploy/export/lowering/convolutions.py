"""Convolutions of images, trained with the readout or frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from rcdp_hpc.deploy.export.lowering.builder import Builder, Weights
from rcdp_hpc.deploy.export.lowering.readouts import normalised
from rcdp_hpc.deploy.export.lowering.sequences import Sequences
from rcdp_hpc.networks.convolutions import Convolutions, Stage


def lower_normalised(builder: Builder, weights: Weights, x: str, sample_shape: Sequence[int]) -> str:
    """Append the normalisation of samples by channel that trained extractors begin with."""
    return builder.affine(
        x, weights["input_mean"], weights["input_scale"], axis=len(sample_shape), name="normalise_samples"
    )


def lower_convolutions(
    builder: Builder, module: Convolutions, weights: Weights, activation: str, x: str, sample_shape: Sequence[int]
) -> Sequences:
    """Append `Convolutions` to images (rows, *sample_shape); `weights` are those of the module."""
    x = images(builder, x, sample_shape)
    if module.whitening is not None:
        kernels = weights["whitening.kernels"]
        bias = builder.constant("no_bias", np.zeros(len(kernels)))
        x = builder.op("conv2d", x, builder.constant("whitening", kernels), bias, stride=[1, 1], padding=[0, 0])
        x = _activated(builder, activation, x)
    for number, stage in enumerate(module.stages):
        x = _stage(builder, cast(Stage, stage), weights.part(f"stages.{number}"), activation, x, f"stage.{number}")
    x = normalised(builder, weights.part("norm"), x, module.norm, 1, "map_norm")
    x = builder.op("transpose", x, axes=[2, 3, 1])
    return Sequences(builder.op("reshape", x, shape=[module.steps, module.features]), module.steps, module.features)


def images(builder: Builder, x: str, sample_shape: Sequence[int]) -> str:
    """Append the operations that make samples (rows, height, width[, channels]) (rows, channels, height, width)."""
    if len(sample_shape) == 2:
        return builder.op("reshape", x, shape=[1, *sample_shape])
    return builder.op("transpose", x, axes=[3, 1, 2])


def _stage(builder: Builder, stage: Stage, weights: Weights, activation: str, x: str, name: str) -> str:
    y = _convolved(builder, weights, "kernel", x, f"{name}.kernel")
    y = builder.op("max_pool", y, size=[2, 2])
    y = _activated(builder, activation, normalised(builder, weights.part("norm"), y, stage.norm, 1, f"{name}.norm"))
    if stage.residual_norm is None:
        return y
    z = _convolved(builder, weights, "residual_kernel", y, f"{name}.residual")
    z = normalised(builder, weights.part("residual_norm"), z, stage.residual_norm, 1, f"{name}.residual_norm")
    return builder.op("add", y, _activated(builder, activation, z))


def _convolved(builder: Builder, weights: Weights, part: str, x: str, name: str) -> str:
    """Append a convolution by 3 x 3 kernels that keeps height and width."""
    outputs = len(weights[f"{part}.weight"])
    kernels = builder.constant(name, weights[f"{part}.weight"])
    bias = builder.constant("no_bias", np.zeros(outputs))
    return builder.op("conv2d", x, kernels, bias, stride=[1, 1], padding=[1, 1])


def _activated(builder: Builder, activation: str, x: str) -> str:
    if activation == "gelu":
        return builder.op("activation", x, name="gelu")
    return builder.op("activation", x, name="relu", slope=0.0)
