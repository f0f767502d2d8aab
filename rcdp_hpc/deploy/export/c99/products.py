"""Operations with matrices as calls of C functions: linear maps, convolutions, and what is recurrent."""

from __future__ import annotations

import numpy as np

from rcdp_hpc.deploy.export.c99.emission import Emission, Matrix, is_sparse, refused
from rcdp_hpc.deploy.export.c99.values import Value, product
from rcdp_hpc.deploy.export.program import Op
from rcdp_hpc.model.packing import Quantized

# Numbers of the activations in the C function `activate`.
ACTIVATIONS = {"identity": 0, "tanh": 1, "sigmoid": 2, "relu": 3}


def linear(code: Emission, op: Op) -> None:
    """Write W x + b along the last axis."""
    x = code.input(op)
    _linear(code, x, op.inputs[1], code.constant(op.inputs[2]), code.result(op, x.steps))


def conv2d(code: Emission, op: Op) -> None:
    """Write a convolution of maps."""
    x, kernels = code.input(op), code.matrix(op.inputs[1])
    outputs, channels, high, wide = code.shape(op.inputs[1])
    (down, across), (above, left) = op.settings["stride"], op.settings["padding"]
    y = code.result(op)
    code.call(
        "conv2d",
        *(x.variable, channels, *x.lengths[1:], *kernels.arguments, outputs, high, wide, kernels.scale),
        *(code.constant(op.inputs[2]), down, across, above, left, *y.lengths[1:], y.variable),
        c_type=kernels.c_type,
    )


def max_pool(code: Emission, op: Op) -> None:
    """Write the largest values of blocks of maps."""
    x, y = code.input(op), code.result(op)
    code.call("max_pool", x.variable, *x.lengths, *op.settings["size"], y.variable)


def layer_norm(code: Emission, op: Op) -> None:
    """Write the normalisation along the last axis."""
    x = code.input(op)
    scale, offset = (code.constant(name, length=x.shape[-1]) for name in op.inputs[1:])
    y = code.result_over(op, x)
    code.call(
        "layer_norm",
        *(x.variable, product(x.lengths[:-1]), x.lengths[-1], scale, offset, repr(op.settings["epsilon"])),
        y.variable,
    )


def attention(code: Emission, op: Op) -> None:
    """Write self-attention."""
    x, y = code.input(op), code.result(op, code.values[op.inputs[0]].steps)
    code.call("attention", x.variable, x.lengths[0], y.shape[-1], op.settings["heads"], y.variable)


def lstm(code: Emission, op: Op) -> None:
    """Write an LSTM: the gates' part of the input for all steps, then the steps."""
    x, (_, weights, recurrent, bias) = code.input(op), op.inputs
    gates = code.scratch((x.shape[0], code.shape(weights)[0]), x.steps)
    _linear(code, x, weights, code.constant(bias), gates)
    matrix, y = code.matrix(recurrent), code.result(op, x.steps)
    code.call(
        "lstm",
        *(gates.variable, x.lengths[0], y.shape[-1], *matrix.arguments, matrix.scale, y.variable),
        c_type=matrix.c_type,
    )


def gru(code: Emission, op: Op) -> None:
    """Write a GRU: the gates' part of the input for all steps, then the steps."""
    x, (_, weights, recurrent, bias, inner_bias) = code.input(op), op.inputs
    gates = code.scratch((x.shape[0], code.shape(weights)[0]), x.steps)
    _linear(code, x, weights, code.constant(bias), gates)
    matrix, inner, y = code.matrix(recurrent), code.constant(inner_bias), code.result(op, x.steps)
    code.call(
        "gru",
        *(gates.variable, x.lengths[0], y.shape[-1], *matrix.arguments, matrix.scale, inner, y.variable),
        c_type=matrix.c_type,
    )


def reservoir(code: Emission, op: Op) -> None:
    """Write a reservoir: what the input drives at all steps, then the steps, over them."""
    x, (_, data, indices, indptr, weights, bias, leak) = code.input(op), op.inputs
    kind = _activation(op)
    y = code.result(op, x.steps)
    nodes = y.shape[-1]
    _linear(code, x, weights, code.constant(bias), y)
    matrix = _connections(code, data, indices, indptr, nodes)
    rates = code.constant(leak)
    code.call(
        "reservoir" if matrix.sparse else "dense_reservoir",
        *(y.variable, y.lengths[0], nodes, *matrix.arguments, matrix.scale, rates, code.shape(leak)[0], kind),
        c_type=matrix.c_type,
    )


def diagonal_reservoir(code: Emission, op: Op) -> None:
    """Write a diagonal reservoir: oscillators, then the nodes that read them."""
    x, (_, along, across, weights, mixing, bias, leak) = code.input(op), op.inputs
    kind, units = _activation(op), code.shape(along)[0]
    driven = code.scratch((x.shape[0], units), x.steps)
    memory = code.scratch((x.shape[0], 2 * units), x.steps)
    y = code.result(op, x.steps)
    _linear(code, x, weights, "NULL", driven)
    code.call(
        "oscillators",
        *(driven.variable, x.lengths[0], units, code.constant(along), code.constant(across), memory.variable),
    )
    _linear(code, memory, mixing, code.constant(bias), y)
    code.call("leaky", y.variable, y.lengths[0], y.shape[-1], code.constant(leak), code.shape(leak)[0], kind)


def _linear(code: Emission, x: Value, weights: str, bias: str, y: Value) -> None:
    """Write y = W x + b along the last axis; the bias may be NULL."""
    matrix = code.matrix(weights, may_be_sparse=True)
    outputs, inputs = code.shape(weights)
    code.call(
        "sparse_linear" if matrix.sparse else "linear",
        *(x.variable, product(x.lengths[:-1]), inputs, outputs, *matrix.arguments, matrix.scale, bias, y.variable),
        c_type=matrix.c_type,
    )


def _connections(code: Emission, data: str, indices: str, indptr: str, nodes: int) -> Matrix:
    """Return the connections between nodes, which the program holds as a sparse matrix; dense if that is smaller."""
    constant = code.program.constants[data]
    columns, starts = code.program.array(indices), code.program.array(indptr)
    entries, scale, c_type = code.program.array(data), "NULL", "float"
    if isinstance(constant, Quantized) and len(constant.scale) == 1:
        scale = code.define(f"{data}.scale", f"{data}_scale", np.broadcast_to(constant.scale, (nodes,)))
        entries, c_type = constant.codes, "code"
    if is_sparse(len(entries), nodes * nodes, entries.itemsize):
        return Matrix(c_type, code.sparse(data, entries, columns, starts), scale, sparse=True)
    dense = np.zeros((nodes, nodes), entries.dtype)
    dense[np.repeat(np.arange(nodes), np.diff(starts)), columns] = entries
    return Matrix(c_type, [code.define(data, data, dense)], scale)


def _activation(op: Op) -> int:
    name = op.settings["activation"]
    if name not in ACTIVATIONS:
        raise refused(op, f"with the activation {name!r}")
    return ACTIVATIONS[name]
