"""The body of `rcdp_predict` while it is written: values, constants, calls."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.c99.library import call_name
from rcdp_hpc.deploy.export.c99.text import array, identifier
from rcdp_hpc.deploy.export.c99.values import Steps, Storage, Value
from rcdp_hpc.deploy.export.program import LENGTHS, SAMPLES, Op, Program
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.packing import Quantized

# A matrix is written without its zeros if that takes at most this share of the bytes.
SPARSE_SHARE = 0.75
SHORT_COLUMNS = 2**16


@dataclass(frozen=True)
class Matrix:
    """A constant matrix as C arguments.

    Attributes
    ----------
    c_type : str
        "float", or "code" for 8-bit integers.
    arguments : list of str
        Its numbers, and, if it is sparse, columns and starts of rows.
    scale : str
        Array of a factor for each row, or NULL.
    sparse : bool
    """

    c_type: str
    arguments: list[str]
    scale: str
    sparse: bool = False


class Emission:
    """Writes calls of C functions for the operations of a program.

    Parameters
    ----------
    program : Program
        With `varying_steps` every step of a series exists: one sample is predicted at a time, without padding.

    Attributes
    ----------
    definitions : list of str
        Constant arrays.
    used : set of (str, str)
        Functions of the library, and their types.
    lines : list of str
        Statements.
    storages : list of Storage
        In the order in which they are written.
    least : dict of str to int
        Fewest steps, by C variable.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.definitions: list[str] = []
        self.used: set[tuple[str, str]] = set()
        self.lines: list[str] = []
        self.storages: list[Storage] = []
        self.least: dict[str, int] = {}
        self.number = 0
        self._shapes = program.shapes()
        self._names: dict[str, str] = {}
        self._matrices: dict[tuple[str, bool], Matrix] = {}
        self._counts = 1
        self.last = {name: number for number, op in enumerate(program.ops) for name in op.inputs}
        self.last |= dict.fromkeys((program.output, program.decides_by), len(program.ops))
        steps = Steps("steps", "RCDP_MAX_STEPS") if program.varying_steps else None
        sample = Value("sample", program.sample_shape, number_type_of(program), steps)
        self.values: dict[str, Value] = {SAMPLES: sample}
        self.lengths = {LENGTHS}

    def short_columns(self) -> bool:
        """Return whether 16 bits hold every column of every matrix."""
        widths = [shape[-1] for shape in self._shapes.values() if shape]
        return max(widths, default=0) <= SHORT_COLUMNS

    # Values

    def input(self, op: Op, place: int = 0) -> Value:
        """Return an input of an operation, as float."""
        value = self.values[op.inputs[place]]
        if value.c_type == "float":
            return value
        converted = self._new(value.shape, "float", value.steps)
        self.call("to_float", value.variable, value.total, converted.variable, c_type=value.c_type)
        return converted

    def result(self, op: Op, steps: Steps | None = None, c_type: str = "float") -> Value:
        """Return memory for the result of an operation."""
        value = self._new(self._shapes[op.output], c_type, steps, self.last.get(op.output, self.number))
        self.values[op.output] = value
        return value

    def result_over(self, op: Op, x: Value) -> Value:
        """Return memory for the result of an operation by element: that of x if nothing reads x afterwards."""
        ended = x.storage is not None and x.c_type == "float" and x.storage.last <= self.number
        return self.alias(op, x) if ended else self.result(op, x.steps)

    def alias(self, op: Op, x: Value, steps: Steps | None = None) -> Value:
        """Return the memory of x as the result of an operation."""
        if x.storage is not None:
            x.storage.last = max(x.storage.last, self.last.get(op.output, self.number))
        value = Value(x.variable, self._shapes[op.output], x.c_type, steps or x.steps, x.storage)
        self.values[op.output] = value
        return value

    def scratch(self, shape: tuple[int, ...], steps: Steps | None) -> Value:
        """Return memory that only this operation uses."""
        return self._new(shape, "float", steps)

    def counted(self, expression: str, bound: str) -> Steps:
        """Return the steps of a result, as a new variable."""
        steps = Steps(f"steps{self._counts}", bound)
        self._counts += 1
        self.lines.append(f"    int {steps.count} = {expression};")
        return steps

    def require(self, x: Value, fewest: int) -> None:
        """Refuse shorter series, if the steps are known only when the function is called."""
        if x.steps is not None:
            self.least[x.steps.count] = max(fewest, self.least.get(x.steps.count, 1))
            self.lines.append(f"    if ({x.steps.count} < {fewest})\n        return 1;")

    def _new(self, shape: tuple[int, ...], c_type: str, steps: Steps | None, last: int | None = None) -> Value:
        size, bound = math.prod(shape if steps is None else shape[1:]), "" if steps is None else steps.bound
        variable = f"v{len(self.storages)}"
        storage = Storage(variable, size, bound, c_type, self.number, self.number if last is None else last)
        self.storages.append(storage)
        return Value(variable, shape, c_type, steps, storage)

    # Constants

    def constant(self, name: str, dtype: str = "float32", length: int | None = None) -> str:
        """Return the C array of a constant in a number format, repeated to `length` if it has one entry."""
        values = self.program.array(name).astype(dtype)
        if length is not None:
            values = np.broadcast_to(values.reshape(-1), (length,))
        return self.define(f"{name}.{dtype}.{length}", name, values)

    def define(self, key: str, name: str, values: NDArray[np.generic], c_type: str = "") -> str:
        """Define an array once for each key; return its identifier, made of a name."""
        if key not in self._names:
            wanted = f"c_{identifier(name)}"
            count = sum(other == wanted or other.startswith(f"{wanted}__") for other in self._names.values())
            self._names[key] = f"{wanted}__{count}" if count else wanted
            self.definitions.append(array(self._names[key], values, c_type))
        return self._names[key]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a constant."""
        constant = self.program.constants[name]
        return constant.codes.shape if isinstance(constant, Quantized) else constant.shape

    def matrix(self, name: str, may_be_sparse: bool = False) -> Matrix:
        """Return a constant as a matrix whose rows are its first axis: codes with scales if it is quantised by row."""
        if (name, may_be_sparse) not in self._matrices:
            self._matrices[name, may_be_sparse] = self._matrix(name, may_be_sparse)
        return self._matrices[name, may_be_sparse]

    def _matrix(self, name: str, may_be_sparse: bool) -> Matrix:
        constant = self.program.constants[name]
        values, scale = self.program.array(name), "NULL"
        if isinstance(constant, Quantized) and (constant.axis == 0 or len(constant.scale) == 1):
            values = constant.codes
            scale = self.define(f"{name}.scale", f"{name}_scale", np.broadcast_to(constant.scale, (len(values),)))
        rows = values.reshape(len(values), -1)
        places = np.nonzero(rows)
        stored = len(places[0])
        c_type = "code" if scale != "NULL" else "float"
        if may_be_sparse and is_sparse(stored, rows.size, rows.itemsize):
            starts = np.concatenate([[0], np.cumsum(np.bincount(places[0], minlength=len(rows)))])
            return Matrix(c_type, self.sparse(name, rows[places], places[1], starts), scale, sparse=True)
        return Matrix(c_type, [self.define(f"{name}.{c_type}", name, values)], scale)

    def sparse(
        self, name: str, entries: NDArray[np.generic], columns: NDArray[np.integer], starts: NDArray[np.integer]
    ) -> list[str]:
        """Define a sparse matrix; return its entries, columns and starts of rows."""
        return [
            self.define(f"{name}.entries", f"{name}_entries", entries),
            self.define(f"{name}.columns", f"{name}_columns", columns, "column"),
            self.define(f"{name}.starts", f"{name}_starts", starts),
        ]

    # Statements

    def call(self, function: str, *arguments: object, c_type: str = "float") -> None:
        """Write the call of a function of the library."""
        self.used.add((function, c_type))
        text = f"    {call_name(function, c_type)}({', '.join(map(str, arguments))});"
        self.lines.append(text)


def is_sparse(stored: int, size: int, itemsize: int) -> bool:
    """Return whether a matrix of `size` numbers is written as its `stored` ones that are not 0 and their columns."""
    return stored * (itemsize + 2) < SPARSE_SHARE * size * itemsize


def refused(op: Op, what: str) -> InputError:
    """Return the error of an operation that has no form in C."""
    return InputError(
        f".c: cannot hold the operation {op.kind!r} {what} (docs/export.md). Export the model as .npz, which holds all "
        "operations."
    )


def number_type_of(program: Program) -> str:
    """Return the C type of samples."""
    return "float" if program.sample_dtype == "float32" else "double"
