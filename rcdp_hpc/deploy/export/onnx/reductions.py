"""ONNX nodes of what is kept of the states of all steps."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from onnx import TensorProto

from rcdp_hpc.deploy.export.onnx.graph import END, Graph
from rcdp_hpc.deploy.export.onnx.steps import column, lengths_of, part, step_range
from rcdp_hpc.deploy.export.program import Op


def reduce_(graph: Graph, op: Op) -> str:
    """Return the values that a reduction keeps, shape (n, values, F)."""
    x, lengths = graph.single(op.inputs[0]), lengths_of(graph, op)
    if lengths is None:
        return _of_equal(graph, op, x, graph.shapes[op.inputs[0]][0])
    return _of_unequal(graph, op, x, lengths)


def takes_last(settings: Mapping[str, Any]) -> bool:
    """Return whether a reduction keeps the last step and nothing else."""
    name = settings["name"]
    return (name == "steps" and settings["steps"] == [-1]) or (name == "spaced" and settings["count"] == 1)


def _of_equal(graph: Graph, op: Op, x: str, steps: int) -> str:
    """Return the values of series that all have `steps` steps."""
    name, first, count = op.settings["name"], op.settings.get("warm_up", 0), op.settings.get("count", 1)
    if takes_last(op.settings):
        return _taken(graph, x, [-1])
    if name == "steps":
        return _taken(graph, x, op.settings["steps"])
    if name == "spaced":
        return _taken(graph, x, first + np.arange(1, count + 1) * (steps - first) // count - 1)
    if name == "all":
        if count <= steps:
            return part(graph, x, steps - count, END)
        return graph.node("Pad", x, graph.ints([0, count - steps, 0, 0, 0, 0]))
    if name == "segments":
        edges = first + np.arange(count + 1) * (steps - first) // count
        bounds = [(start, max(stop, start + 1)) for start, stop in pairwise(edges.tolist())]
        return graph.node("Concat", *(_mean(graph, part(graph, x, *bound)) for bound in bounds), axis=1)
    counted = part(graph, x, first, END) if first else x
    if name == "max":
        return graph.node("ReduceMax", counted, graph.ints([1]))
    if name == "positive":
        return _mean(graph, _is_positive(graph, counted))
    mean = _mean(graph, counted)
    if name == "mean":
        return mean
    centred = graph.node("Sub", counted, mean)
    return graph.node("Sqrt", _mean(graph, graph.node("Mul", centred, centred)))


def _of_unequal(graph: Graph, op: Op, x: str, lengths: str) -> str:
    """Return the values of series with lengths."""
    name, first, count = op.settings["name"], op.settings.get("warm_up", 0), op.settings.get("count", 1)
    lengths = column(graph, lengths)
    if name == "steps":
        steps = np.asarray(op.settings["steps"])
        ends = graph.node("Mul", lengths, graph.ints((steps < 0).astype(np.int64)))
        return _taken_by_row(graph, x, graph.node("Add", ends, graph.ints(steps)))
    if name == "spaced":
        edge = _edges(graph, lengths, first, np.arange(1, count + 1), count)
        return _taken_by_row(graph, x, graph.node("Sub", edge, graph.ints(1)))
    if name == "all":
        places = graph.node("Add", lengths, graph.ints(np.arange(count) - count))
        kept = _taken_by_row(graph, x, graph.node("Max", places, graph.ints(0)))
        missing = graph.node("Unsqueeze", graph.node("Less", places, graph.ints(0)), graph.ints([2]))
        return graph.node("Where", missing, graph.floats(0), kept)
    if name == "segments":
        start = _edges(graph, lengths, first, np.arange(count), count)
        stop = graph.node("Max", _edges(graph, lengths, first, np.arange(1, count + 1), count), _next(graph, start))
        return graph.node("MatMul", _weights(graph, x, start, stop), x)
    start = graph.ints(np.full((1, 1), first))
    if name == "max":
        inside = graph.node("Unsqueeze", _between(graph, x, start, lengths), graph.ints([3]))
        lowest = graph.node("Where", graph.node("Squeeze", inside, graph.ints([1])), x, graph.floats(-np.inf))
        return graph.node("ReduceMax", lowest, graph.ints([1]))
    weights = _weights(graph, x, start, lengths)
    if name == "positive":
        return graph.node("MatMul", weights, _is_positive(graph, x))
    mean = graph.node("MatMul", weights, x)
    if name == "mean":
        return mean
    centred = graph.node("Sub", x, mean)
    return graph.node("Sqrt", graph.node("MatMul", weights, graph.node("Mul", centred, centred)))


def _mean(graph: Graph, x: str) -> str:
    return graph.node("ReduceMean", x, graph.ints([1]))


def _is_positive(graph: Graph, x: str) -> str:
    return graph.node("Cast", graph.node("Greater", x, graph.floats(0)), to=TensorProto.FLOAT)


def _next(graph: Graph, steps: str) -> str:
    return graph.node("Add", steps, graph.ints(1))


def _taken(graph: Graph, x: str, steps: list[int] | np.ndarray) -> str:
    """Return x at the same steps of every row."""
    return graph.node("Gather", x, graph.ints(np.asarray(steps)), axis=1)


def _taken_by_row(graph: Graph, x: str, steps: str) -> str:
    """Return x at steps (n, k), shape (n, k, F)."""
    return graph.node("GatherND", x, graph.node("Unsqueeze", steps, graph.ints([2])), batch_dims=1)


def _edges(graph: Graph, lengths: str, first: int, numbers: np.ndarray, count: int) -> str:
    """Return first + numbers * (lengths - first) div count, shape (n, numbers)."""
    left = graph.node("Sub", lengths, graph.ints(first))
    share = graph.node("Div", graph.node("Mul", left, graph.ints(numbers)), graph.ints(count))
    return graph.node("Add", share, graph.ints(first))


def _between(graph: Graph, x: str, start: str, stop: str) -> str:
    """Return whether each step of x is at least `start` and before `stop`, both (n, k) or (1, k): (n, k, T)."""
    steps, axis = step_range(graph, x), graph.ints([2])
    not_before = graph.node("GreaterOrEqual", steps, graph.node("Unsqueeze", start, axis))
    return graph.node("And", not_before, graph.node("Less", steps, graph.node("Unsqueeze", stop, axis)))


def _weights(graph: Graph, x: str, start: str, stop: str) -> str:
    """Return weights (n, k, T) whose products with x are the means over the steps between `start` and `stop`."""
    inside = graph.node("Cast", _between(graph, x, start, stop), to=TensorProto.FLOAT)
    counts = graph.node("Cast", graph.node("Sub", stop, start), to=TensorProto.FLOAT)
    return graph.node("Div", inside, graph.node("Unsqueeze", counts, graph.ints([2])))
