"""A program as variables of a .mat file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.program import Constant, Op, Program
from rcdp_hpc.model.packing import Quantized

FORMAT = 1
# Longest name of a field in a .mat file and in MATLAB.
LONGEST_NAME = 63
# Inputs that are matrices of a product: rows stay rows. All other constants have their axes in the opposite order, as
# the values have in `rcdp_predict.m`.
MATRICES = {"linear": (1,), "lstm": (1, 2), "gru": (1, 2), "reservoir": (4,), "diagonal_reservoir": (3, 4)}
# Inputs that a training changes; other constants follow from the settings, the seed and the scaling of samples.
TRAINED = {
    "affine": (1, 2, 3), "add": (1,), "multiply": (1,), "linear": (1, 2), "conv2d": (1, 2), "layer_norm": (1, 2),
    "lstm": (1, 2, 3), "gru": (1, 2, 3, 4),
}  # fmt: skip
# Constants that are learned without gradients: averages of those of several nodes mean nothing.
# So do those of calibrations, which belong to the probabilities of one model.
LEARNED = re.compile(r"filters|whitening|floor|code_norm|machine\.\d+\.\d|calibration|priors|decision")


def variables(program: Program, training_rows: float) -> dict[str, Any]:
    """Return the variables of a .mat file.

    Parameters
    ----------
    program : Program
    training_rows : float
        The weight of the model in an average; 0 if it is not known.
    """
    names = unique_names([*program.constants, "samples", "lengths", *(op.output for op in program.ops)])
    axes = {name: len(shape) + 1 for name, shape in program.shapes().items()}
    last = {name: number for number, op in enumerate(program.ops) for name in op.inputs}
    ops = [_operation(program, number, op, names, axes, last) for number, op in enumerate(program.ops)]
    natural = {op.inputs[place] for op in program.ops for place in MATRICES.get(op.kind, ())}
    return {
        "classes": cells(np.frombuffer(label.encode(), np.uint8)[None] for label in program.classes),
        "sample_shape": np.array(program.sample_shape, float)[None],
        "sample_dtype": program.sample_dtype,
        "varying_steps": float(program.varying_steps),
        "ops": cells(ops),
        "constants": {
            names[name]: _constant(constant, name in natural) for name, constant in program.constants.items()
        },
        "output": names[program.output],
        "decision": names[program.decides_by],
        "trained": cells(names[name] for name in trained(program)),
        "scaling": _scaling(program, names),
        "training_rows": float(training_rows),
        # Last: a file that ends early lacks it, and is refused.
        "rcdp_format": float(FORMAT),
    }


def trained(program: Program) -> list[str]:
    """Return the names of the constants that can be averaged, in the order of the program.

    The scaling of raw samples cannot: its ``affine`` is the one that computes in float64.
    """
    named = {
        op.inputs[place]
        for op in program.ops
        for place in TRAINED.get(op.kind, ())
        if place < len(op.inputs) and not op.settings.get("double")
    }
    return [name for name in program.constants if name in named and not LEARNED.match(name)]


def _scaling(program: Program, names: dict[str, str]) -> dict[str, str]:
    """Return how raw samples are standardised, and the names of the constants of it that nodes can average."""
    method = (program.facts.get("standardization") or {}).get("method", "none")
    found = {"method": method, "center": "", "scale": "", "fill": ""}
    for op in program.ops:
        if op.kind == "fill":
            found["fill"] = names[op.inputs[1]]
        elif op.kind == "affine" and op.settings["double"] and method in ("standard", "robust"):
            found |= {"center": names[op.inputs[1]], "scale": names[op.inputs[2]]}
    return found


def unique_names(names: Iterable[str]) -> dict[str, str]:
    """Return a name of letters, digits and underscores for each name, each another one."""
    found: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        plain = plain if plain[:1].isalpha() else f"v_{plain}"
        unique, number = plain[:LONGEST_NAME], 1
        while unique in used:
            number += 1
            suffix = f"_{number}"
            unique = plain[: LONGEST_NAME - len(suffix)] + suffix
        used.add(unique)
        found[name] = unique
    return found


def cells(values: Iterable[Any]) -> NDArray[np.object_]:
    """Return a column of cells."""
    listed = list(values)
    column = np.empty((len(listed), 1), object)
    for place, value in enumerate(listed):
        column[place, 0] = value
    return column


def _operation(
    program: Program, number: int, op: Op, names: dict[str, str], axes: dict[str, int], last: dict[str, int]
) -> dict[str, Any]:
    """Return an operation: `axes` counts those of its first input, `finished` are values that nothing reads later."""
    used = {*program.constants, program.output, program.decides_by}
    finished = [name for name in dict.fromkeys(op.inputs) if name not in used and last[name] == number]
    return {
        "kind": op.kind,
        "inputs": cells(names[name] for name in op.inputs),
        "output": names[op.output],
        "settings": {key: _setting(value) for key, value in op.settings.items()},
        "axes": float(axes.get(op.inputs[0], 1)),
        "finished": cells(names[name] for name in finished),
    }


def _setting(value: Any) -> Any:
    if value is None:
        return np.zeros((0, 0))
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[0], list):  # lists of lists of numbers
        table = np.empty((len(value), max(map(len, value))), object)
        for row, lists in enumerate(value):
            for column, numbers in enumerate(lists):
                table[row, column] = np.array(numbers, float)[None]
        return table
    if isinstance(value, list):
        return np.array(value, float)[None]
    return float(value)


def _constant(constant: Constant, natural: bool) -> Any:
    if isinstance(constant, Quantized):
        codes = constant.codes if natural else constant.codes.T
        dimension = constant.axis + 1 if natural else constant.codes.ndim - constant.axis
        return {"codes": codes, "scale": constant.scale, "dimension": float(dimension)}
    values = constant if natural else constant.T
    return values.astype(np.int32) if values.dtype == np.int64 else values
