"""Readouts that read the kept states step by step: LSTM, GRU, transformer, convolution."""

from __future__ import annotations

import numpy as np

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.deploy.export.lowering.builder import Builder, Weights
from rcdp_hpc.deploy.export.lowering.readouts import normalised, standardised
from rcdp_hpc.networks.readouts.base import SequenceReadout
from rcdp_hpc.networks.readouts.convolution import ConvolutionReadout
from rcdp_hpc.networks.readouts.recurrent import RecurrentReadout
from rcdp_hpc.networks.readouts.transformer import TransformerReadout


def lower_lstm(builder: Builder, settings: ReadoutSection, network: RecurrentReadout, weights: Weights, x: str) -> str:
    """Append an LSTM over o_t of eq. 10; return the class scores."""
    x = _outputs(builder, network, weights, x)
    for layer in range(settings.layers):
        bias = weights[f"recurrent.bias_ih_l{layer}"] + weights[f"recurrent.bias_hh_l{layer}"]
        x = builder.op(
            "lstm",
            x,
            builder.constant(f"lstm.{layer}.input", weights[f"recurrent.weight_ih_l{layer}"]),
            builder.constant(f"lstm.{layer}.hidden", weights[f"recurrent.weight_hh_l{layer}"]),
            builder.constant(f"lstm.{layer}.bias", bias),
        )
    return _scores(builder, weights, _last_step(builder, x, settings.hidden))


def lower_gru(builder: Builder, settings: ReadoutSection, network: RecurrentReadout, weights: Weights, x: str) -> str:
    """Append a GRU over o_t of eq. 10; return the class scores."""
    x = _outputs(builder, network, weights, x)
    for layer in range(settings.layers):
        x = builder.op(
            "gru",
            x,
            builder.constant(f"gru.{layer}.input", weights[f"recurrent.weight_ih_l{layer}"]),
            builder.constant(f"gru.{layer}.hidden", weights[f"recurrent.weight_hh_l{layer}"]),
            builder.constant(f"gru.{layer}.bias", weights[f"recurrent.bias_ih_l{layer}"]),
            builder.constant(f"gru.{layer}.inner_bias", weights[f"recurrent.bias_hh_l{layer}"]),
        )
    return _scores(builder, weights, _last_step(builder, x, settings.hidden))


def lower_transformer(
    builder: Builder, settings: ReadoutSection, network: TransformerReadout, weights: Weights, x: str
) -> str:
    """Append self-attention over o_t of eq. 10; return the class scores."""
    positions = network.positions.cpu().numpy()
    x = builder.op("add", _outputs(builder, network, weights, x), builder.constant("positions", positions))
    for number in range(settings.layers):
        layer, name = weights.part(f"encoder.{number}"), f"layer.{number}"
        y = _layer_norm(builder, layer.part("norm1"), x, f"{name}.norm1")
        attention = layer.part("self_attn")
        y = builder.linear(y, attention["in_proj_weight"], attention["in_proj_bias"], name=f"{name}.qkv")
        y = builder.op("attention", y, heads=settings.heads)
        out = attention.part("out_proj")
        y = builder.linear(y, out["weight"], out["bias"], name=f"{name}.out")
        x = builder.op("add", x, y)
        y = _layer_norm(builder, layer.part("norm2"), x, f"{name}.norm2")
        y = builder.linear(y, layer["linear1.weight"], layer["linear1.bias"], name=f"{name}.first")
        y = builder.op("activation", y, name="relu", slope=0.0)
        y = builder.linear(y, layer["linear2.weight"], layer["linear2.bias"], name=f"{name}.second")
        x = builder.op("add", x, y)
    mean = builder.op("reduce", x, name="mean", warm_up=0)
    pooled = builder.op("reshape", mean, shape=[settings.outputs])
    return _scores(builder, weights, _layer_norm(builder, weights.part("norm"), pooled, "norm"))


def lower_convolution(
    builder: Builder, settings: ReadoutSection, network: ConvolutionReadout, weights: Weights, x: str
) -> str:
    """Append convolutions over the steps of o_t of eq. 10; return the class scores."""
    steps, hidden = network.feature_shape.steps, settings.hidden
    x = builder.op("transpose", _outputs(builder, network, weights, x), axes=[2, 1])
    x = builder.op("reshape", x, shape=[settings.outputs, 1, steps])
    for layer, norm in enumerate(network.norms):
        kernel = weights[f"kernels.{layer}.weight"][:, :, None]
        inputs = (builder.constant(f"kernels.{layer}", kernel), builder.constant("no_bias", np.zeros(hidden)))
        x = builder.op("conv2d", x, *inputs, stride=[1, 1], padding=[0, settings.kernel_size // 2])
        x = normalised(builder, weights.part(f"norms.{layer}"), x, norm, 1, f"norms.{layer}")  # type: ignore[arg-type]
        x = builder.op("activation", x, name="relu", slope=0.0)
    x = builder.op("transpose", builder.op("reshape", x, shape=[hidden, steps]), axes=[2, 1])
    pooled = [builder.op("reduce", x, name=name, warm_up=0) for name in ("mean", "max")]
    x = builder.op("reshape", builder.op("concat", *pooled, axis=1), shape=[2 * hidden])
    return _scores(builder, weights, x)


def _outputs(builder: Builder, network: SequenceReadout, weights: Weights, x: str) -> str:
    """Return o_t = W_out s_t (eq. 10) of features (rows, features), shape (rows, steps, outputs)."""
    x, shape = standardised(builder, weights, x), network.feature_shape
    if shape.parts > 1:
        x = builder.op("reshape", x, shape=[shape.parts, shape.steps, shape.width])
        x = builder.op("transpose", x, axes=[2, 1, 3])
    x = builder.op("reshape", x, shape=[shape.steps, shape.parts * shape.width])
    return builder.linear(x, weights["output_map.weight"], name="output_map")


def _last_step(builder: Builder, x: str, width: int) -> str:
    return builder.op("reshape", builder.op("reduce", x, name="steps", steps=[-1]), shape=[width])


def _layer_norm(builder: Builder, weights: Weights, x: str, name: str) -> str:
    inputs = (builder.constant(f"{name}.scale", weights["weight"]), builder.constant(f"{name}.offset", weights["bias"]))
    return builder.op("layer_norm", x, *inputs, epsilon=1e-5)


def _scores(builder: Builder, weights: Weights, x: str) -> str:
    return builder.linear(x, weights["scores.weight"], weights["scores.bias"], name="scores")
