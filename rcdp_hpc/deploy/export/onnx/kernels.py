"""ONNX nodes of the features of MiniRocket, with the same order of additions as in the training.

The biases are values of the sums themselves, so that a sum that is rounded in another way would change a feature.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from rcdp_hpc.deploy.export.onnx.graph import Graph
from rcdp_hpc.deploy.export.onnx.steps import blanked, column, lengths_of, step_count, step_range, within
from rcdp_hpc.deploy.export.program import Op

TRIPLES = np.array(list(itertools.combinations(range(9), 3)))
PAIRS = list(itertools.combinations(range(8), 2))
# The number of the pair that a triple begins with.
PAIR_OF = np.array([PAIRS.index((int(first), int(second))) for first, second, _ in TRIPLES])


def kernels(graph: Graph, op: Op) -> str:
    """Return the features of all kernels, row of biases after row."""
    lengths = lengths_of(graph, op, constants=1)
    x = graph.single(op.inputs[0])
    inside = None if lengths is None else within(graph, x, lengths)
    series = graph.node("Transpose", blanked(graph, x, inside), perm=[0, 2, 1])
    channels, biases = graph.shapes[op.inputs[0]][-1], graph.program.array(op.inputs[1])
    dilations, inner = op.settings["dilations"], op.settings["inner"]
    chosen = op.settings["channels"] or [[[0]] * len(PAIRS)] * len(dilations)
    shifted = {dilation: _shifted(graph, series, channels, dilation) for dilation in dict.fromkeys(dilations)}
    counts = _counts(graph, x, lengths)
    features = []
    for row, dilation in enumerate(dilations):
        sums = _sums(graph, *shifted[dilation], chosen[row], channels)
        above = graph.node("Greater", sums, graph.floats(biases[row][:, None]))
        counted = _counted(graph, x, counts, 4 * dilation if inner[row] else 0)
        features.append(_share(graph, above, counted))
    return graph.node("Concat", *features, axis=1)


def _counts(graph: Graph, x: str, lengths: str | None) -> str:
    """Return the steps of each series, shape (n, 1) or (1, 1)."""
    return graph.node("Unsqueeze", step_count(graph, x), graph.ints([0])) if lengths is None else column(graph, lengths)


def _shifted(graph: Graph, series: str, channels: int, dilation: int) -> tuple[str, str]:
    """Return 3 v_j of all channels and j, (n, (channels + 1) * 9, T), and the sums of v_j, (n, channels + 1, T).

    The last channel is 0: it fills up lists of channels of unequal length.
    """
    pad = 4 * dilation
    padded = graph.node("Pad", series, graph.ints([0, 0, pad, 0, 1, pad]))
    count = graph.node("Shape", series, start=2, end=3)
    shifts = []
    for place in range(9):
        start = graph.ints([place * dilation])
        shifts.append(graph.node("Slice", padded, start, graph.node("Add", count, start), graph.ints([2])))
    total = shifts[0]
    for shift in shifts[1:]:
        total = graph.node("Add", total, shift)
    axis = graph.ints([2])
    stacked = graph.node("Concat", *(graph.node("Unsqueeze", shift, axis) for shift in shifts), axis=2)
    thrice = graph.node("Mul", stacked, graph.floats(3))
    shape = graph.node("Concat", graph.ints([0, (channels + 1) * 9]), count, axis=0)
    return graph.node("Reshape", thrice, shape), total


def _sums(graph: Graph, thrice: str, totals: str, chosen: Sequence[Sequence[int]], channels: int) -> str:
    """Return C_t of all kernels, shape (n, 84, T)."""
    most = max(map(len, chosen))
    filled = np.array([[*listed, *[channels] * (most - len(listed))] for listed in chosen])[PAIR_OF]

    def summed(values: str, places: np.ndarray) -> str:
        terms = [graph.node("Gather", values, graph.ints(numbers), axis=1) for numbers in places.T]
        result = terms[0]
        for term in terms[1:]:
            result = graph.node("Add", result, term)
        return result

    first, second, third = (summed(thrice, filled * 9 + TRIPLES[:, place, None]) for place in range(3))
    without = graph.node("Sub", first, summed(totals, filled))
    return graph.node("Add", graph.node("Add", without, second), third)


def _counted(graph: Graph, x: str, counts: str, pad: int) -> str:
    """Return whether a step counts, shape (n, T) or (1, T): all of a series, or those `pad` steps from its ends."""
    steps = step_range(graph, x)
    inside = graph.node("Less", steps, counts)
    if not pad:
        return inside
    before_end = graph.node("Less", steps, graph.node("Sub", counts, graph.ints(pad)))
    inner = graph.node("And", graph.node("GreaterOrEqual", steps, graph.ints(pad)), before_end)
    short = graph.node("LessOrEqual", counts, graph.ints(2 * pad))
    return graph.node("And", inside, graph.node("Or", short, inner))


def _share(graph: Graph, above: str, counted: str) -> str:
    """Return the share of the counted steps that are above, shape (n, 84)."""
    axis = graph.ints([2])
    counted = graph.node("Unsqueeze", counted, graph.ints([1]))
    hits = graph.node("Cast", graph.node("And", above, counted), to=TensorProto.FLOAT)
    steps = graph.node("ReduceSum", graph.node("Cast", counted, to=TensorProto.FLOAT), axis)
    share = graph.node("Div", graph.node("ReduceSum", hits, axis), steps)
    return graph.node("Squeeze", share, axis)
