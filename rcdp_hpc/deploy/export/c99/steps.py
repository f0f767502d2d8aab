"""Operations on the steps of a series as calls of C functions. One series is predicted at a time, without padding."""

from __future__ import annotations

import itertools

import numpy as np

from rcdp_hpc.deploy.export.c99.emission import Emission, refused
from rcdp_hpc.deploy.export.c99.values import Value
from rcdp_hpc.deploy.export.program import Op

# Kernels of a bias row, and pairs of positions of their first two weights 2.
KERNELS = 84
PAIRS = 28
BOUNDED = {"mean": "mean", "std": "deviation", "max": "maximum", "positive": "positive"}


def blank(code: Emission, op: Op) -> None:
    """Write nothing: there are no steps after the end."""
    code.alias(op, code.values[op.inputs[0]])


def window_lengths(code: Emission, op: Op) -> None:
    """Write nothing: the steps of a value are counted with the value."""
    code.lengths.add(op.output)


def windows(code: Emission, op: Op) -> None:
    """Write the windows of a series."""
    x, size, stride = code.values[op.inputs[0]], op.settings["size"], op.settings["stride"]
    counted = None
    if x.steps is not None:
        code.require(x, size)
        counted = code.counted(
            f"({x.steps.count} - {size}) / {stride} + 1", f"(({x.steps.bound}) - {size}) / {stride} + 1"
        )
    y = code.result(op, counted, x.c_type)
    features = x.shape[1]
    code.call(
        "overlapping",
        *(x.variable, y.lengths[0], size * features, stride * features, y.variable),
        c_type=x.c_type,
    )


def standardise_series(code: Emission, op: Op) -> None:
    """Write series of mean 0 and standard deviation 1."""
    x = code.values[op.inputs[0]]
    y = code.result(op, x.steps)
    least = repr(float(op.settings["least"]))
    code.call("standardise_series", x.variable, *x.lengths, least, y.variable, c_type=x.c_type)


def differences(code: Emission, op: Op) -> None:
    """Write the differences between steps."""
    x = code.input(op)
    y = code.result(op, x.steps)
    code.call("differences", x.variable, *x.lengths, repr(float(op.settings["scaling"])), y.variable)


def reverse(code: Emission, op: Op) -> None:
    """Write the steps in the opposite order."""
    x = code.input(op)
    y = code.result(op, x.steps)
    code.call("reverse", x.variable, *x.lengths, y.variable)


def delay(code: Emission, op: Op) -> None:
    """Write each step with those before it."""
    x = code.input(op)
    y = code.result(op, x.steps)
    code.call("delay", x.variable, *x.lengths, op.settings["window"], y.variable)


def reduce(code: Emission, op: Op) -> None:
    """Write values over the steps."""
    x, settings = code.input(op), op.settings
    name, warm_up, count = settings["name"], settings.get("warm_up", 0), settings.get("count", 1)
    y = code.result(op)
    steps, features = x.lengths
    if name in BOUNDED:
        code.require(x, warm_up + 1)
        code.call(BOUNDED[name], x.variable, features, warm_up, steps, y.variable)
    elif name == "steps":
        chosen = settings["steps"]
        code.require(x, max(step + 1 if step >= 0 else -step for step in chosen))
        places = code.define(f"{op.output}.steps", f"{op.output}_steps", np.array(chosen))
        code.call("pick", x.variable, steps, features, places, len(chosen), y.variable)
    elif name == "spaced":
        code.require(x, warm_up + count)
        code.call("spaced", x.variable, steps, features, warm_up, count, y.variable)
    elif name == "segments":
        code.require(x, warm_up + 1)
        code.call("segments", x.variable, steps, features, warm_up, count, y.variable)
    elif name == "all":
        code.call("all_steps", x.variable, steps, features, count, y.variable)
    else:
        raise refused(op, f"{name!r}")


def kernels(code: Emission, op: Op) -> None:
    """Write the features of random convolution kernels, a call for each row of biases."""
    x, settings = code.input(op), op.settings
    y = code.result(op)
    biases = code.constant(op.inputs[1])
    for row, dilation in enumerate(settings["dilations"]):
        chosen = settings["channels"][row] if settings["channels"] else [[0]] * PAIRS
        _kernels(code, op, (x, y), row, (dilation, int(bool(settings["inner"][row]))), biases, chosen)


def _kernels(
    code: Emission,
    op: Op,
    values: tuple[Value, Value],
    row: int,
    numbers: tuple[int, int],
    biases: str,
    chosen: list[list[int]],
) -> None:
    """Write the call for one row of biases: `chosen` are the channels of each pair."""
    x, y = values
    name = f"{op.output}_channels"
    flat = list(itertools.chain.from_iterable(chosen))
    starts = [0, *itertools.accumulate(len(channels) for channels in chosen)]
    channels = code.define(f"{name}.{flat}", name, np.array(flat))
    first = code.define(f"{name}.starts.{starts}", f"{name}_starts", np.array(starts))
    at = f" + {row * KERNELS}"
    code.call("kernels", x.variable, *x.lengths, *numbers, channels, first, biases + at, y.variable + at)
