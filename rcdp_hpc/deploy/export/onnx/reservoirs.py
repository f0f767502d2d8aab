"""ONNX nodes of reservoirs: a `Scan` over the steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rcdp_hpc.deploy.export.onnx.constants import recurrent_matrix
from rcdp_hpc.deploy.export.onnx.elementwise import activated
from rcdp_hpc.deploy.export.onnx.graph import Graph
from rcdp_hpc.deploy.export.onnx.layers import product
from rcdp_hpc.deploy.export.onnx.reductions import takes_last
from rcdp_hpc.deploy.export.program import Op


def reservoir(graph: Graph, op: Op) -> str:
    """Return the states of a reservoir after all steps."""
    x, data, indices, indptr, weights, bias, leak = op.inputs
    # The products with the input do not depend on the states, so one product computes them for all steps.
    driven = product(graph, graph.single(x), weights, bias)
    matrix = graph.store(recurrent_matrix(graph.program, data, indices, indptr))
    nodes = len(graph.program.array(indptr)) - 1

    def step(states: list[str], inputs: str) -> tuple[list[str], str]:
        sums = graph.node("Add", graph.node("MatMul", states[0], matrix), inputs)
        state = leaked(graph, states[0], activated(graph, sums, op.settings["activation"], op.settings), leak)
        return [state], state

    return scan(graph, driven, [nodes], step, only_last(graph, op))


def diagonal_reservoir(graph: Graph, op: Op) -> str:
    """Return the states of a diagonal reservoir after all steps."""
    x, along, across, weights, mixing, bias, leak = op.inputs
    units, nodes = len(graph.program.array(along)), len(graph.program.array(bias))
    driven = product(graph, graph.single(x), weights, None)
    along, across = graph.value(along), graph.value(across)

    def step(states: list[str], inputs: str) -> tuple[list[str], str]:
        real, imaginary, state = states
        turned = graph.node("Sub", graph.node("Mul", along, real), graph.node("Mul", across, imaginary))
        other = graph.node("Add", graph.node("Mul", along, imaginary), graph.node("Mul", across, real))
        turned = graph.node("Add", turned, inputs)
        sums = product(graph, graph.node("Concat", turned, other, axis=1), mixing, bias, flat=True)
        state = leaked(graph, state, activated(graph, sums, op.settings["activation"], op.settings), leak)
        return [turned, other, state], state

    return scan(graph, driven, [units, units, nodes], step, only_last(graph, op))


def only_last(graph: Graph, op: Op) -> bool:
    """Return whether all that reads the states of a reservoir takes the last one of series of one length."""
    readers = [other for other in graph.program.ops if op.output in other.inputs]
    if not readers or op.output in (graph.program.output, graph.program.decides_by):
        return False
    return all(other.kind == "reduce" and len(other.inputs) == 1 and takes_last(other.settings) for other in readers)


def leaked(graph: Graph, state: str, driven: str, leak: str) -> str:
    """Return (1 - leak) state + leak driven."""
    if np.all(graph.program.array(leak) == 1):
        return driven
    change = graph.node("Mul", graph.node("Sub", driven, state), graph.value(leak))
    return graph.node("Add", state, change)


def scan(
    graph: Graph, x: str, sizes: list[int], step: Callable[[list[str], str], tuple[list[str], str]], last: bool
) -> str:
    """Return what `step` computes at each step, shape (n, T, size), or with `last` at the last one, (n, 1, size).

    Parameters
    ----------
    graph : Graph
    x : str
        The ONNX value that is read step by step, shape (n, T, F).
    sizes : list of int
        Sizes of the states, which are 0 at first.
    step : callable
        Adds the nodes of a step: from states and the input of the step to new states and the output of the step, which
        is the last state, too.
    last : bool
    """
    rows = graph.node("Shape", x, start=0, end=1)
    zeros = [graph.node("ConstantOfShape", graph.node("Concat", rows, graph.ints([size]), axis=0)) for size in sizes]
    states, inputs = [graph.new_name("state") for _ in sizes], graph.new_name("step")
    with graph.body() as nodes:
        following, output = step(states, inputs)
        results = [graph.node("Identity", name) for name in (following if last else [*following, output])]
        body = graph.graph_of(nodes, [*states, inputs], results)
    # Not with other axes than 0 for the steps, which some runtimes do not have.
    steps_first = graph.node("Transpose", x, perm=[1, 0, 2])
    *_, found = graph.node_of("Scan", [*zeros, steps_first], len(results), body=body, num_scan_inputs=1)
    return graph.node("Unsqueeze", found, graph.ints([1])) if last else graph.node("Transpose", found, perm=[1, 0, 2])
