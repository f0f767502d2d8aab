"""ONNX nodes of the layers of networks."""

from __future__ import annotations

import math

import numpy as np

from rcdp_hpc.deploy.export.onnx.constants import transposed, with_blocks
from rcdp_hpc.deploy.export.onnx.graph import Graph
from rcdp_hpc.deploy.export.program import Op

# Blocks of a program's gates in the order of ONNX: i, o, f, g from i, f, g, o; and z, r, m from r, z, m.
LSTM_BLOCKS = (0, 3, 1, 2)
GRU_BLOCKS = (1, 0, 2)


def linear(graph: Graph, op: Op) -> str:
    """Return x W' + b along the last axis."""
    x, weights, bias = op.inputs
    return product(graph, graph.single(x), weights, bias, flat=graph.rank(x) == 2)


def product(graph: Graph, x: str, weights: str, bias: str | None, flat: bool = False) -> str:
    """Return x W' + b of an ONNX value and constants; `flat`: x has two axes."""
    if flat:
        return graph.node("Gemm", x, graph.value(weights), *([] if bias is None else [graph.value(bias)]), transB=1)
    values = graph.node("MatMul", x, graph.store(transposed(graph.program.constants[weights])))
    if bias is None or not np.any(graph.program.array(bias)):
        return values
    return graph.node("Add", values, graph.value(bias))


def conv2d(graph: Graph, op: Op) -> str:
    """Return the convolution of images."""
    x, *constants = op.inputs
    stride, padding = list(op.settings["stride"]), list(op.settings["padding"])
    return graph.node("Conv", graph.single(x), *map(graph.value, constants), strides=stride, pads=padding * 2)


def max_pool(graph: Graph, op: Op) -> str:
    """Return the largest value of each block."""
    size = list(op.settings["size"])
    return graph.node("MaxPool", graph.single(op.inputs[0]), kernel_shape=size, strides=size)


def layer_norm(graph: Graph, op: Op) -> str:
    """Return the layer norm along the last axis."""
    x, *constants = op.inputs
    epsilon = float(op.settings["epsilon"])
    return graph.node("LayerNormalization", graph.single(x), *map(graph.value, constants), axis=-1, epsilon=epsilon)


def attention(graph: Graph, op: Op) -> str:
    """Return softmax(Q K' / sqrt(d)) V of each head. A 0 in a shape stands for the length of that axis."""
    heads, width = op.settings["heads"], graph.shapes[op.inputs[0]][-1] // 3
    depth = width // heads
    parts = graph.node("Reshape", graph.single(op.inputs[0]), graph.ints([0, 0, 3, heads, depth]))
    by_part = graph.node("Transpose", parts, perm=[2, 0, 3, 1, 4])
    query, key, value = (graph.node("Gather", by_part, graph.ints(part), axis=0) for part in range(3))
    turned = graph.node("Transpose", key, perm=[0, 1, 3, 2])
    scaled = graph.node("Mul", query, graph.floats(1 / math.sqrt(depth)))
    weights = graph.node("Softmax", graph.node("MatMul", scaled, turned), axis=-1)
    result = graph.node("Transpose", graph.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    return graph.node("Reshape", result, graph.ints([0, 0, width]))


def lstm(graph: Graph, op: Op) -> str:
    """Return the hidden states of an LSTM after all steps."""
    bias = graph.program.array(op.inputs[3])
    return _recurrent(graph, op, "LSTM", LSTM_BLOCKS, bias, np.zeros_like(bias))


def gru(graph: Graph, op: Op) -> str:
    """Return the hidden states of a GRU after all steps."""
    biases = [graph.program.array(name) for name in op.inputs[3:]]
    return _recurrent(graph, op, "GRU", GRU_BLOCKS, *biases, linear_before_reset=1)


def _recurrent(
    graph: Graph, op: Op, kind: str, order: tuple[int, ...], bias: np.ndarray, inner_bias: np.ndarray, **attributes: int
) -> str:
    # ONNX has one layer for each direction as the first axis of weights, and the second axis of the result.
    axis = graph.ints([0])
    steps_first = graph.node("Transpose", graph.single(op.inputs[0]), perm=[1, 0, 2])
    weights = [
        graph.node("Unsqueeze", graph.store(with_blocks(graph.program.constants[name], order)), axis)
        for name in op.inputs[1:3]
    ]
    biases = np.concatenate([with_blocks(values, order) for values in (bias, inner_bias)])  # type: ignore[misc]
    hidden = graph.program.array(op.inputs[2]).shape[1]
    states = graph.node(kind, steps_first, *weights, graph.floats(biases[None]), hidden_size=hidden, **attributes)
    return graph.node("Transpose", graph.node("Squeeze", states, graph.ints([1])), perm=[1, 0, 2])
