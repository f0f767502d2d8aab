"""An ONNX graph that is built node by node, and how constants are stored in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from rcdp_hpc.deploy.export.program import LENGTHS, SAMPLES, Constant, Op, Program
from rcdp_hpc.model.packing import Quantized

# Smaller arrays are stored as they are.
LEAST_SPARSE = 256
# Positions and values are stored only if they take at most this share of the bytes of the array.
SPARSE_SHARE = 0.75
# `Slice` reads up to the end of an axis with this number, and down to its start with the negative one.
END = 2**63 - 1


class Graph:
    """The nodes and initialisers of an ONNX graph for a program.

    Parameters
    ----------
    program : Program

    Attributes
    ----------
    program : Program
    shapes : dict of str to tuple of int
        Shape of each value of the program without its rows; the steps of a program with ``varying_steps`` are those of
        one example.
    nodes : list of NodeProto
        In order; within `body` those of the body.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.shapes = program.shapes()
        self.initializers: list[TensorProto] = []
        self.nodes: list[NodeProto] = []
        self._main = self.nodes
        self._names: dict[str, str] = {SAMPLES: SAMPLES, LENGTHS: LENGTHS}
        self._doubles: set[str] = {SAMPLES} if program.sample_dtype == "float64" else set()
        self._stored: dict[tuple[Any, ...], str] = {}
        self._count = 0

    def define(self, value: str, name: str) -> None:
        """Record which ONNX value holds a value of the program."""
        self._names[value] = name

    def value(self, name: str) -> str:
        """Return the ONNX name of a value or constant of the program; a constant is stored with its first use."""
        if name not in self._names:
            self._names[name] = self.store(self.program.constants[name])
        return self._names[name]

    def rank(self, name: str) -> int:
        """Return the number of axes of a value of the program, with its rows."""
        return 1 + len(self.shapes[name])

    def is_double(self, name: str) -> bool:
        """Return whether a value of the program is float64: the samples, and what only rearranges them."""
        return name in self._doubles

    def keep_type(self, op: Op) -> None:
        """Record that the result of an operation has the type of its first input."""
        if op.inputs[0] in self._doubles:
            self._doubles.add(op.output)

    def single(self, name: str) -> str:
        """Return the ONNX name of a value of the program as float32."""
        value = self.value(name)
        return self.node("Cast", value, to=TensorProto.FLOAT) if self.is_double(name) else value

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result, and return the result's name. An absent input is an empty text."""
        (result,) = self.node_of(kind, inputs, 1, **attributes)
        return result

    def node_of(self, kind: str, inputs: Sequence[str], results: int, **attributes: Any) -> list[str]:
        """Add a node with several results, and return their names."""
        names = [self.new_name(kind) for _ in range(results)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names

    def new_name(self, kind: str) -> str:
        """Return a name that is not used yet."""
        self._count += 1
        return f"{kind.lower()}_{self._count}"

    @contextmanager
    def body(self) -> Iterator[list[NodeProto]]:
        """Collect the nodes of a `Scan` body, which may use all values and constants of the graph.

        Constants are stored in the graph itself.
        """
        with self._collected_in([]):
            yield self.nodes

    @contextmanager
    def _collected_in(self, nodes: list[NodeProto]) -> Iterator[None]:
        outer, self.nodes = self.nodes, nodes
        try:
            yield
        finally:
            self.nodes = outer

    def graph_of(self, nodes: list[NodeProto], inputs: Iterable[str], outputs: Iterable[str]) -> GraphProto:
        """Return the body of a `Scan` of float32 values."""

        def described(names: Iterable[str]) -> list[Any]:
            return [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]

        return helper.make_graph(nodes, self.new_name("body"), described(inputs), described(outputs))

    def ints(self, values: Sequence[int] | NDArray[np.int64] | int) -> str:
        """Return the name of a constant of integers."""
        return self._literal(np.asarray(values, np.int64))

    def floats(self, values: Any, double: bool = False) -> str:
        """Return the name of a constant of float32, or float64, numbers."""
        return self._literal(np.asarray(values, np.float64 if double else np.float32))

    def store(self, constant: Constant) -> str:
        """Store a constant as small as it can be, and return the name of its dense float32 (or integer) values.

        An array that is mostly 0 is stored as the distances between its other values, and these. Int8 codes are stored
        with their scales. What computes the dense array has no input: runtimes do that once, when they load the file.
        """
        if isinstance(constant, Quantized):
            key = (constant.axis, constant.scale.tobytes())
            return self._once(key, constant.codes, lambda: self._dequantized(constant))
        return self._once("dense", constant, lambda: self._dense(constant))

    def _dequantized(self, constant: Quantized) -> str:
        # Not DequantizeLinear: onnxruntime replaces it, followed by MatMul, by a product that rounds the other factor
        # to 8 bits, too.
        shape = [1] * constant.codes.ndim
        if constant.codes.ndim:
            shape[constant.axis] = -1
        codes = self.node("Cast", self._dense(constant.codes), to=TensorProto.FLOAT)
        return self.node("Mul", codes, self.floats(constant.scale.reshape(shape)))

    def _dense(self, array: NDArray[Any]) -> str:
        flat = np.ascontiguousarray(array).reshape(-1)
        places = np.flatnonzero(flat)
        gaps = np.diff(places, prepend=0)
        gap_type = np.min_scalar_type(int(gaps.max(initial=0)))
        smaller = len(places) * (gap_type.itemsize + flat.itemsize) <= SPARSE_SHARE * flat.nbytes
        if len(flat) < LEAST_SPARSE or not smaller:
            return self._literal(array)
        distances = self.node("Cast", self._literal(gaps.astype(gap_type)), to=TensorProto.INT64)
        zero = numpy_helper.from_array(np.zeros(1, flat.dtype))
        zeros = self.node("ConstantOfShape", self.ints([len(flat)]), value=zero)
        positions = self.node("CumSum", distances, self.ints(0))
        values = self.node("ScatterElements", zeros, positions, self._literal(flat[places]), axis=0)
        return self.node("Reshape", values, self.ints(array.shape))

    def _literal(self, array: NDArray[Any]) -> str:
        return self._once("literal", array, lambda: self._initializer(array))

    def _initializer(self, array: NDArray[Any]) -> str:
        name = self.new_name("constant")
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def _once(self, key: object, array: NDArray[Any], make: Callable[[], str]) -> str:
        """Return the name of a constant, which is made if there is no equal one."""
        digest = hashlib.sha256(array.tobytes()).digest()
        complete = (key, array.dtype.str, array.shape, digest)
        if complete not in self._stored:
            with self._collected_in(self._main):
                self._stored[complete] = make()
        return self._stored[complete]
