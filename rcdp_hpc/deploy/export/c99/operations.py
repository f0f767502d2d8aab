"""The operations of a program as calls of C functions: one function for each kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rcdp_hpc.deploy.export.c99 import products, steps
from rcdp_hpc.deploy.export.c99.emission import Emission, refused
from rcdp_hpc.deploy.export.c99.values import Value, product
from rcdp_hpc.deploy.export.program import Op

# Axes of a value without its rows that the functions for any order of axes take.
MOST_AXES = 4


def _fill(code: Emission, op: Op) -> None:
    x = code.values[op.inputs[0]]
    values = code.constant(op.inputs[1], "float64", x.shape[-1])
    y = code.result(op, x.steps, x.c_type)
    code.call("fill", x.variable, product(x.lengths[:-1]), x.lengths[-1], values, y.variable, c_type=x.c_type)


def _affine(code: Emission, op: Op) -> None:
    double = op.settings["double"]
    x = code.values[op.inputs[0]] if double else code.input(op)
    axis = op.settings["axis"]
    before, along, after = x.lengths[: axis - 1], x.lengths[axis - 1], x.lengths[axis:]
    if all(code.program.array(name).size == 1 for name in op.inputs[1:]):
        before, along, after = ["1"], "1", x.lengths
    elif not along.isdecimal():
        raise refused(op, "along the steps of series of unequal length")
    constants = [code.constant(name, "float64" if double else "float32", int(along)) for name in op.inputs[1:]]
    y = code.result_over(op, x)
    code.call(
        "exact_affine" if double else "affine",
        *(x.variable, product(before), along, product(after), *constants, y.variable),
        c_type=x.c_type,
    )


def _reshape(code: Emission, op: Op) -> None:
    x, shape = code.values[op.inputs[0]], op.settings["shape"]
    if x.steps is None:
        code.alias(op, x)
        return
    if shape[0] != -1:
        raise refused(op, "of series of unequal length to one shape")
    inner, width = int(product(x.lengths[1:])), int(np.prod(shape[1:], dtype=int))
    if inner == width:
        code.alias(op, x)
        return
    counted = code.counted(f"{x.steps.count} * {inner} / {width}", f"({x.steps.bound}) * {inner} / {width}")
    code.alias(op, x, counted)


def _transpose(code: Emission, op: Op) -> None:
    x, axes = code.values[op.inputs[0]], op.settings["axes"]
    if x.steps is not None and axes[0] != 1:
        raise refused(op, "of the steps of series of unequal length")
    if len(axes) > MOST_AXES:
        raise refused(op, f"of more than {MOST_AXES} axes")
    distances = [product(x.lengths[axis:]) for axis in axes]
    lengths = [x.lengths[axis - 1] for axis in axes]
    y = code.result(op, x.steps, x.c_type)
    missing = MOST_AXES - len(axes)
    code.call(
        "permute",
        *(x.variable, *["1"] * missing, *lengths, *["0"] * missing, *distances, y.variable),
        c_type=x.c_type,
    )


def _slice(code: Emission, op: Op) -> None:
    x, settings = code.values[op.inputs[0]], op.settings
    before, along, after = _split(op, x, settings["axis"])
    y = code.result(op, x.steps, x.c_type)
    count = y.shape[settings["axis"] - 1]
    code.call(
        "slice",
        *(x.variable, before, along, after, settings["start"], count, settings["step"], y.variable),
        c_type=x.c_type,
    )


def _gather(code: Emission, op: Op) -> None:
    x = code.values[op.inputs[0]]
    before, along, after = _split(op, x, op.settings["axis"])
    indices = code.constant(op.inputs[1], "int64")
    count = len(code.program.array(op.inputs[1]))
    y = code.result(op, x.steps, x.c_type)
    code.call("gather", x.variable, before, along, after, indices, count, y.variable, c_type=x.c_type)


def _concat(code: Emission, op: Op) -> None:
    parts = [code.input(op, place) for place in range(len(op.inputs))]
    axis = op.settings["axis"]
    before, _, after = _split(op, parts[0], axis)
    y = code.result(op, parts[0].steps)
    distance, offset = product([y.lengths[axis - 1], after]), 0
    for part in parts:
        block = product([part.lengths[axis - 1], after])
        code.call("place", part.variable, before, block, distance, f"{y.variable} + {offset}")
        offset += int(block)


def _broadcast(function: str) -> Callable[[Emission, Op], None]:
    """Return the operation of a function of two values."""

    def emit(code: Emission, op: Op) -> None:
        x, other = code.input(op), op.inputs[1]
        if len(x.shape) > MOST_AXES:
            raise refused(op, f"of more than {MOST_AXES} axes")
        if other in code.program.constants:
            variable = code.constant(other)
            lengths = [str(length) for length in code.program.array(other).shape]
        else:
            y = code.input(op, 1)
            variable, lengths = y.variable, y.lengths
        missing = MOST_AXES - len(x.shape)
        lengths = ["1"] * (MOST_AXES - len(lengths)) + lengths
        distances = ["0" if length == "1" else product(lengths[place + 1 :]) for place, length in enumerate(lengths)]
        result = code.result_over(op, x)
        code.call(
            function,
            *(x.variable, variable, *["1"] * missing, *x.lengths, *distances, result.variable),
        )

    return emit


def _activation(code: Emission, op: Op) -> None:
    x, name = code.input(op), op.settings["name"]
    if name == "identity":
        code.alias(op, x)
        return
    functions: dict[str, tuple[str, list[str]]] = {
        "tanh": ("tangent", []),
        "sigmoid": ("sigmoid", []),
        "relu": ("relu", [_number(op.settings.get("slope", 0.0))]),
        "gelu": ("gelu", []),
        "clip": ("clip", [_limit(op.settings.get("low"), "-"), _limit(op.settings.get("high"), "")]),
        "power": ("power", [_number(op.settings.get("exponent", 1.0))]),
        "log": ("logarithm", []),
    }
    if name not in functions:
        raise refused(op, f"{name!r}")
    function, constants = functions[name]
    y = code.result_over(op, x)
    code.call(function, x.variable, x.total, *constants, y.variable)


def _weighted_sum(code: Emission, op: Op) -> None:
    parts = [code.input(op, place) for place in range(len(op.inputs))]
    y = code.result(op, parts[0].steps)
    for number, (part, weight) in enumerate(zip(parts, op.settings["weights"], strict=True)):
        code.call("weighted", part.variable, part.total, _number(weight), int(not number), y.variable)


def _softmax(code: Emission, op: Op) -> None:
    x = code.input(op)
    y = code.result_over(op, x)
    code.call("softmax", x.variable, x.total, y.variable)


def _shares(code: Emission, op: Op) -> None:
    x = code.input(op)
    y = code.result_over(op, x)
    least, shift = _number(op.settings["least"]), int(bool(op.settings["shift"]))
    code.call("shares", x.variable, x.total, least, shift, y.variable)


def _split(op: Op, x: Value, axis: int) -> tuple[str, str, str]:
    """Return the numbers of values before, along and after an axis."""
    if x.steps is not None and axis == 1:
        raise refused(op, "along the steps of series of unequal length")
    return product(x.lengths[: axis - 1]), x.lengths[axis - 1], product(x.lengths[axis:])


def _number(value: float) -> str:
    """Return a number as a float of C."""
    return f"{float(np.float32(value))!r}f"


def _limit(value: float | None, sign: str) -> str:
    return f"{sign}INFINITY" if value is None else _number(value)


OPERATIONS: dict[str, Callable[[Emission, Op], None]] = {
    "fill": _fill, "affine": _affine, "reshape": _reshape, "transpose": _transpose, "slice": _slice, "gather": _gather,
    "concat": _concat, "add": _broadcast("add"), "multiply": _broadcast("multiply"), "activation": _activation,
    "weighted_sum": _weighted_sum, "softmax": _softmax, "shares": _shares,
    "linear": products.linear, "conv2d": products.conv2d, "max_pool": products.max_pool,
    "layer_norm": products.layer_norm, "attention": products.attention,
    "lstm": products.lstm, "gru": products.gru, "reservoir": products.reservoir,
    "diagonal_reservoir": products.diagonal_reservoir,
    "blank": steps.blank, "windows": steps.windows, "window_lengths": steps.window_lengths,
    "standardise_series": steps.standardise_series, "differences": steps.differences, "reverse": steps.reverse,
    "delay": steps.delay, "reduce": steps.reduce, "kernels": steps.kernels,
}  # fmt: skip
