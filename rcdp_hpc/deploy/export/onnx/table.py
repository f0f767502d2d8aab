"""Which function adds the nodes of which operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rcdp_hpc.deploy.export.onnx import elementwise, kernels, layers, reductions, reservoirs, shapes, steps
from rcdp_hpc.deploy.export.onnx.graph import Graph
from rcdp_hpc.deploy.export.program import Op

# Each adds nodes to the graph and returns the ONNX name of the operation's result.
EMITTERS: Mapping[str, Callable[[Graph, Op], str]] = {
    "fill": elementwise.fill,
    "affine": elementwise.affine,
    "add": elementwise.add,
    "multiply": elementwise.multiply,
    "activation": elementwise.activation,
    "softmax": elementwise.softmax,
    "shares": elementwise.shares,
    "weighted_sum": elementwise.weighted_sum,
    "reshape": shapes.reshape,
    "transpose": shapes.transpose,
    "slice": shapes.slice_,
    "gather": shapes.gather,
    "concat": shapes.concat,
    "linear": layers.linear,
    "conv2d": layers.conv2d,
    "max_pool": layers.max_pool,
    "layer_norm": layers.layer_norm,
    "attention": layers.attention,
    "lstm": layers.lstm,
    "gru": layers.gru,
    "blank": steps.blank,
    "windows": steps.windows,
    "window_lengths": steps.window_lengths,
    "standardise_series": steps.standardise_series,
    "differences": steps.differences,
    "reverse": steps.reverse,
    "delay": steps.delay,
    "reservoir": reservoirs.reservoir,
    "diagonal_reservoir": reservoirs.diagonal_reservoir,
    "reduce": reductions.reduce_,
    "kernels": kernels.kernels,
}
