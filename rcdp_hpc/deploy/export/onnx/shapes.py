"""ONNX nodes of operations that rearrange values."""

from __future__ import annotations

from rcdp_hpc.deploy.export.onnx.graph import Graph
from rcdp_hpc.deploy.export.program import Op


def reshape(graph: Graph, op: Op) -> str:
    """Return the values in another shape; the 0 stands for the rows."""
    graph.keep_type(op)
    return graph.node("Reshape", graph.value(op.inputs[0]), graph.ints([0, *op.settings["shape"]]))


def transpose(graph: Graph, op: Op) -> str:
    """Return the values with their axes in another order."""
    graph.keep_type(op)
    return graph.node("Transpose", graph.value(op.inputs[0]), perm=[0, *op.settings["axes"]])


def slice_(graph: Graph, op: Op) -> str:
    """Return a part of an axis."""
    graph.keep_type(op)
    bounds = [graph.ints([op.settings[key]]) for key in ("start", "stop", "axis", "step")]
    return graph.node("Slice", graph.value(op.inputs[0]), *bounds)


def gather(graph: Graph, op: Op) -> str:
    """Return the entries of an axis with these indices."""
    graph.keep_type(op)
    return graph.node("Gather", *map(graph.value, op.inputs), axis=op.settings["axis"])


def concat(graph: Graph, op: Op) -> str:
    """Return values one after the other."""
    return graph.node("Concat", *map(graph.single, op.inputs), axis=op.settings["axis"])
