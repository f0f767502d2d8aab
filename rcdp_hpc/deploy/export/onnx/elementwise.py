"""ONNX nodes of operations by element, and of those that turn scores into probabilities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto

from rcdp_hpc.deploy.export.onnx.graph import Graph
from rcdp_hpc.deploy.export.program import Op
from rcdp_hpc.errors import InputError


def fill(graph: Graph, op: Op) -> str:
    """Return x with a value in place of NaN."""
    x = graph.value(op.inputs[0])
    graph.keep_type(op)
    values = graph.floats(graph.program.array(op.inputs[1]), double=graph.is_double(op.output))
    return graph.node("Where", graph.node("IsNaN", x), values, x)


def affine(graph: Graph, op: Op) -> str:
    """Return (x - center) * scale + offset; parts that change nothing are left out."""
    name, double = op.inputs[0], bool(op.settings.get("double"))
    x = graph.single(name)
    if double:
        x = graph.value(name) if graph.is_double(name) else graph.node("Cast", x, to=TensorProto.DOUBLE)
    trailing = (1,) * (graph.rank(name) - op.settings["axis"] - 1)
    for kind, constant, without in zip(("Sub", "Mul", "Add"), op.inputs[1:], (0, 1, 0), strict=True):
        values = graph.program.array(constant)
        if bool(np.any(values != without)):
            x = graph.node(kind, x, graph.floats(values.reshape(-1, *trailing), double))
    return graph.node("Cast", x, to=TensorProto.FLOAT) if double else x


def add(graph: Graph, op: Op) -> str:
    """Return x + y."""
    return graph.node("Add", *map(graph.single, op.inputs))


def multiply(graph: Graph, op: Op) -> str:
    """Return x * y."""
    return graph.node("Mul", *map(graph.single, op.inputs))


def activation(graph: Graph, op: Op) -> str:
    """Return the activation of x."""
    return activated(graph, graph.single(op.inputs[0]), op.settings["name"], op.settings)


def activated(graph: Graph, x: str, name: str, settings: dict[str, Any]) -> str:
    """Return the activation `name` of an ONNX value."""
    match name:
        case "identity":
            return x
        case "tanh" | "sigmoid" | "log":
            return graph.node(name.capitalize(), x)
        case "relu":
            slope = settings.get("slope") or 0.0
            return graph.node("LeakyRelu", x, alpha=float(slope)) if slope else graph.node("Relu", x)
        case "gelu":
            error = graph.node("Erf", graph.node("Mul", x, graph.floats(math.sqrt(0.5))))
            half = graph.node("Mul", x, graph.floats(0.5))
            return graph.node("Mul", half, graph.node("Add", error, graph.floats(1)))
        case "clip":
            bounds = [settings.get(key) for key in ("low", "high")]
            return graph.node("Clip", x, *("" if bound is None else graph.floats(bound) for bound in bounds))
        case "power":
            return graph.node("Pow", x, graph.floats(settings["exponent"]))
    raise InputError(f".onnx: there is no form of the activation {name!r} in this format. Export as .npz.")


def softmax(graph: Graph, op: Op) -> str:
    """Return the softmax of scores."""
    return graph.node("Softmax", graph.single(op.inputs[0]), axis=-1)


def shares(graph: Graph, op: Op) -> str:
    """Return max(x, least), divided by its sum."""
    x, least = graph.single(op.inputs[0]), graph.floats(op.settings["least"])
    last = graph.ints([-1])
    if op.settings.get("shift"):
        classes = graph.shapes[op.inputs[0]][-1]
        centred = graph.node("Sub", x, graph.node("ReduceMean", x, last))
        shifted = graph.node("Add", centred, graph.floats(1 / classes))
        above = graph.node("Greater", graph.node("ReduceMax", x, last), least)
        x = graph.node("Where", above, x, shifted)
    values = graph.node("Max", x, least)
    if op.settings.get("shift"):
        values = graph.node("Div", values, graph.node("Max", graph.node("ReduceMax", values, last), graph.floats(1)))
    return graph.node("Div", values, graph.node("ReduceSum", values, last))


def weighted_sum(graph: Graph, op: Op) -> str:
    """Return the weighted sum of values."""
    terms = [
        graph.node("Mul", graph.single(name), graph.floats(weight))
        for name, weight in zip(op.inputs, op.settings["weights"], strict=True)
    ]
    return graph.node("Sum", *terms)
