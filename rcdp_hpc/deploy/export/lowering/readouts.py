"""Readouts of fixed features: ridge, the network of eq. 11, deep extreme learning machines."""

from __future__ import annotations

import numpy as np

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.deploy.export.lowering.builder import Builder, Weights
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.readouts.elm import ELMReadout
from rcdp_hpc.networks.readouts.mlp import MLPReadout


def standardised(builder: Builder, weights: Weights, x: str) -> str:
    """Append the standardisation of the features that trained readouts begin with."""
    return builder.affine(x, weights["state_mean"], weights["state_scale"], axis=1, name="standardise_features")


def normalised(builder: Builder, weights: Weights, x: str, norm: SyncBatchNorm, axis: int, name: str) -> str:
    """Append a batch normalisation by its running statistics; `weights` are those of the normalisation."""
    scale = weights["weight"].astype(np.float64) / np.sqrt(weights["running_var"].astype(np.float64) + norm.eps)
    return builder.affine(x, weights["running_mean"], scale, weights["bias"], axis=axis, name=name)


def activated(builder: Builder, settings: ReadoutSection, x: str) -> str:
    """Append ``readout.activation``."""
    if settings.activation == "relu":
        return builder.op("activation", x, name="relu", slope=settings.relu_slope)
    return x if settings.activation == "identity" else builder.op("activation", x, name=settings.activation)


def lower_ridge(builder: Builder, settings: ReadoutSection, network: object, weights: Weights, x: str) -> str:
    """Append a readout that ridge regression solved; return z, which approximates one-hot classes."""
    return builder.linear(x, weights["linear.weight"], weights["linear.bias"], name="readout")


def lower_mlp(builder: Builder, settings: ReadoutSection, network: MLPReadout, weights: Weights, x: str) -> str:
    """Append eq. 10 and 11; return the class scores."""
    x = builder.linear(standardised(builder, weights, x), weights["output_map.weight"], name="output_map")
    further = [f"further.{number}" for number in range(len(network.further))]
    names = ["inner", *further, "outer"]
    norms = ["inner_norm", *(name.replace("further", "further_norms") for name in further), "outer_norm"]
    for name, norm, (_, module) in zip(names, norms, network.relu_layers(), strict=True):
        x = builder.linear(x, weights[f"{name}.weight"], name=name)
        x = activated(builder, settings, normalised(builder, weights.part(norm), x, module, 1, norm))
    return builder.linear(x, weights["scores.weight"], weights["scores.bias"], name="scores")


def lower_elm(builder: Builder, settings: ReadoutSection, network: ELMReadout, weights: Weights, x: str) -> str:
    """Append deep extreme learning machines; return z, which approximates one-hot classes."""
    standard = standardised(builder, weights, x)
    scores = []
    for band in range(network.bands):
        machine, x = weights.part(f"machines.{band}"), standard
        if network.bands > 1:
            start = band * network.band_features
            x = builder.op("slice", standard, axis=1, start=start, stop=start + network.band_features, step=1)
        for layer in range(len(network.machine(band).layers)):
            beta = machine[f"layers.{layer}.weight"]
            x = activated(builder, settings, builder.linear(x, beta, name=f"machine.{band}.{layer}"))
        scores.append(
            builder.linear(x, machine["scores.weight"], machine["scores.bias"], name=f"machine.{band}.scores")
        )
    if len(scores) == 1:
        return scores[0]
    return builder.op("weighted_sum", *scores, weights=[1 / len(scores)] * len(scores))
