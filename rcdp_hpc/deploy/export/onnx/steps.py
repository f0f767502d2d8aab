"""ONNX nodes of operations on the steps of series."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from rcdp_hpc.deploy.export.onnx.graph import END, Graph
from rcdp_hpc.deploy.export.program import Op


def lengths_of(graph: Graph, op: Op, constants: int = 0) -> str | None:
    """Return the ONNX name of the lengths that an operation reads after x and its constants; None without them."""
    names = op.inputs[1 + constants :]
    return graph.value(names[0]) if names else None


def step_count(graph: Graph, x: str) -> str:
    """Return the number of steps of an array, shape (1,)."""
    return graph.node("Shape", x, start=1, end=2)


def step_range(graph: Graph, x: str) -> str:
    """Return 0, 1, ... up to the steps of an array, shape (T,)."""
    count = graph.node("Squeeze", step_count(graph, x), graph.ints([0]))
    return graph.node("Range", graph.ints(0), count, graph.ints(1))


def column(graph: Graph, values: str) -> str:
    """Return values (n,) as (n, 1)."""
    return graph.node("Unsqueeze", values, graph.ints([1]))


def within(graph: Graph, x: str, lengths: str) -> str:
    """Return whether a step is within its series, shape (n, T, 1)."""
    inside = graph.node("Less", step_range(graph, x), column(graph, lengths))
    return graph.node("Unsqueeze", inside, graph.ints([2]))


def blanked(graph: Graph, x: str, inside: str | None, double: bool = False) -> str:
    """Return x with zeros after the end of each series."""
    return x if inside is None else graph.node("Where", inside, x, graph.floats(0, double))


def part(graph: Graph, x: str, start: int, stop: int, axis: int = 1, step: int = 1) -> str:
    """Return the entries from `start` to before `stop` of an axis."""
    return graph.node("Slice", x, *(graph.ints([value]) for value in (start, stop, axis, step)))


def blank(graph: Graph, op: Op) -> str:
    """Return x with zeros after the end of each series."""
    x, lengths = graph.single(op.inputs[0]), lengths_of(graph, op)
    return x if lengths is None else blanked(graph, x, within(graph, x, lengths))


def windows(graph: Graph, op: Op) -> str:
    """Return windows of steps, one after the other."""
    x, size, stride = graph.value(op.inputs[0]), op.settings["size"], op.settings["stride"]
    graph.keep_type(op)
    left = graph.node("Sub", step_count(graph, x), graph.ints([size]))
    count = graph.node("Add", graph.node("Div", left, graph.ints([stride])), graph.ints([1]))
    numbers = graph.node("Range", graph.ints(0), graph.node("Squeeze", count, graph.ints([0])), graph.ints(1))
    starts = column(graph, graph.node("Mul", numbers, graph.ints([stride])))
    taken = graph.node("Gather", x, graph.node("Add", starts, graph.ints(np.arange(size))), axis=1)
    return graph.node("Reshape", taken, graph.ints([0, 0, size * graph.shapes[op.inputs[0]][-1]]))


def window_lengths(graph: Graph, op: Op) -> str:
    """Return the number of windows of each series."""
    left = graph.node("Sub", graph.value(op.inputs[0]), graph.ints(op.settings["size"]))
    return graph.node("Add", graph.node("Div", left, graph.ints(op.settings["stride"])), graph.ints(1))


def standardise_series(graph: Graph, op: Op) -> str:
    """Return each series and feature with the mean 0 and the standard deviation 1, computed in float64."""
    x = graph.node("Cast", graph.value(op.inputs[0]), to=TensorProto.DOUBLE)
    counts, inside = _counts(graph, op, x)
    first = part(graph, x, 0, 1)
    shifted = blanked(graph, graph.node("Sub", x, first), inside, double=True)
    mean = _mean(graph, shifted, counts)
    centred = blanked(graph, graph.node("Sub", shifted, mean), inside, double=True)
    deviation = graph.node("Sqrt", _mean(graph, graph.node("Mul", centred, centred), counts))
    size = graph.node("Abs", graph.node("Add", first, mean))
    least = graph.node("Mul", size, graph.floats(op.settings["least"], double=True))
    return _divided(graph, centred, deviation, graph.node("LessOrEqual", deviation, least))


def differences(graph: Graph, op: Op) -> str:
    """Return the scaled differences to the step before, computed in float64."""
    x = graph.node("Cast", graph.value(op.inputs[0]), to=TensorProto.DOUBLE)
    counts, inside = _counts(graph, op, x)
    before = graph.node("Concat", part(graph, x, 0, 1), part(graph, x, 0, -1), axis=1)
    steps = blanked(graph, graph.node("Sub", x, before), inside, double=True)
    if op.settings["scaling"]:
        scaled = graph.node("Mul", steps, graph.floats(op.settings["scaling"], double=True))
        return graph.node("Cast", scaled, to=TensorProto.FLOAT)
    one = graph.floats(1, double=True)
    between = graph.node("Max", graph.node("Sub", counts, one), one)
    root = graph.node("Sqrt", _mean(graph, graph.node("Mul", steps, steps), between))
    return _divided(graph, steps, root, graph.node("Equal", root, graph.floats(0, double=True)))


def _counts(graph: Graph, op: Op, x: str) -> tuple[str, str | None]:
    """Return the steps of each series as float64, shape (n, 1, 1) or (1,), and whether a step is within its series."""
    lengths = lengths_of(graph, op)
    if lengths is None:
        return graph.node("Cast", step_count(graph, x), to=TensorProto.DOUBLE), None
    counts = graph.node("Unsqueeze", lengths, graph.ints([1, 2]))
    return graph.node("Cast", counts, to=TensorProto.DOUBLE), within(graph, x, lengths)


def _mean(graph: Graph, x: str, counts: str) -> str:
    return graph.node("Div", graph.node("ReduceSum", x, graph.ints([1])), counts)


def _divided(graph: Graph, values: str, divisor: str, is_zero: str) -> str:
    """Return values / divisor as float32, 0 where `is_zero`."""
    safe = graph.node("Where", is_zero, graph.floats(1, double=True), divisor)
    result = graph.node("Where", is_zero, graph.floats(0, double=True), graph.node("Div", values, safe))
    return graph.node("Cast", result, to=TensorProto.FLOAT)


def reverse(graph: Graph, op: Op) -> str:
    """Return the steps of each series in the opposite order."""
    x, lengths = graph.value(op.inputs[0]), lengths_of(graph, op)
    graph.keep_type(op)
    if lengths is None:
        return part(graph, x, -1, -END, step=-1)
    return graph.node("ReverseSequence", x, lengths, batch_axis=0, time_axis=1)


def delay(graph: Graph, op: Op) -> str:
    """Return each step with the steps before it."""
    x, window = graph.single(op.inputs[0]), op.settings["window"]
    padded = graph.node("Pad", x, graph.ints([0, window - 1, 0, 0, 0, 0]))
    parts = [part(graph, padded, window - 1 - back, -back if back else END) for back in range(window)]
    return graph.node("Concat", *parts, axis=2)
