"""Exported models as ONNX files, which any ONNX runtime runs."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import rcdp_hpc
from rcdp_hpc.deploy.export.base import Probabilities, Writer
from rcdp_hpc.deploy.export.extra import import_extra
from rcdp_hpc.deploy.export.program import LENGTHS, SAMPLES, Program
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.runtime.files import write_atomic

if TYPE_CHECKING:
    from onnx import ModelProto

# Operators of 2022: newer runtimes read them, too.
OPSET = 18
IR_VERSION = 8
# protobuf refuses larger messages.
MOST_BYTES = 2**31 - 2**20
PROBABILITIES = "probabilities"
LABEL = "label"
BLOCK_ROWS = 100


class OnnxWriter(Writer):
    """One ONNX file. A reservoir is a `Scan` over the steps; the number of samples is free.

    The inputs are ``samples``, and ``lengths`` of series of unequal length; the outputs are ``probabilities`` (rows,
    classes) and ``label`` (rows,), the number of the class that is answered. The metadata of the file hold the names of
    the classes and the digest of the training data.

    Raises
    ------
    InputError
        If the package onnx is not installed.
    """

    name = ".onnx"

    def __init__(self) -> None:
        import_extra("onnx", self.name)
        from rcdp_hpc.deploy.export.onnx.table import EMITTERS

        self.operations = EMITTERS

    def check(self, program: Program) -> None:
        """Refuse what the format cannot hold; as `Writer.check`."""
        super().check(program)
        largest = sum(array.nbytes for array in map(program.array, program.constants))
        if largest > MOST_BYTES:
            raise InputError(
                f"{self.name}: this model has constants of {largest / 2**30:.1f} GiB, and an ONNX file holds at most 2 "
                "GiB. Make the model smaller (`rcdp compress`), or export it as .npz."
            )
        nodes = max((len(program.array(op.inputs[3])) - 1 for op in program.ops if op.kind == "reservoir"), default=0)
        if 4 * nodes**2 > MOST_BYTES:
            raise InputError(
                f"{self.name}: ONNX has no sparse products, and the dense connection matrix of {nodes} nodes needs "
                f"{4 * nodes**2 / 2**30:.1f} GiB where the file runs. Export this model as .npz, or remove nodes "
                "(`rcdp compress --unit nodes`)."
            )

    def write(self, program: Program, model: ModelFile, path: Path) -> list[Path]:
        """Write the file; as `Writer.write`."""
        content = onnx_model(program, _metadata(program, model)).SerializeToString()
        write_atomic(path, lambda file: file.write(content))
        return [path]

    def predict(self, path: Path, samples: NDArray[Any], lengths: NDArray[np.int64] | None) -> Probabilities:
        """Return the probabilities by onnxruntime, or, without it, by the evaluator of the package onnx."""
        run = _runner(path)
        blocks = []
        for start in range(0, len(samples), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            blocks.append(run(samples[rows], None if lengths is None else lengths[rows]))
        return np.concatenate(blocks)


def onnx_model(program: Program, metadata: dict[str, str]) -> ModelProto:
    """Return the ONNX model of a program.

    Parameters
    ----------
    program : Program
    metadata : dict of str to str
        Stored in the file.
    """
    from onnx import TensorProto, checker, helper

    from rcdp_hpc.deploy.export.onnx.graph import Graph
    from rcdp_hpc.deploy.export.onnx.table import EMITTERS

    graph = Graph(program)
    for op in program.ops:
        graph.define(op.output, EMITTERS[op.kind](graph, op))
    result = graph.value(program.output)
    graph.nodes.append(helper.make_node("Identity", [result], [PROBABILITIES]))
    decision = graph.value(program.decides_by)
    graph.nodes.append(helper.make_node("ArgMax", [decision], [LABEL], axis=1, keepdims=0))
    shape: list[str | int] = [*program.sample_shape]
    if program.varying_steps:
        shape[0] = "steps"
    kind = TensorProto.DOUBLE if program.sample_dtype == "float64" else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(SAMPLES, kind, ["rows", *shape])]
    if program.varying_steps:
        inputs.append(helper.make_tensor_value_info(LENGTHS, TensorProto.INT64, ["rows"]))
    described = [
        helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["rows", len(program.classes)]),
        helper.make_tensor_value_info(LABEL, TensorProto.INT64, ["rows"]),
    ]
    built = helper.make_graph(graph.nodes, "rcdp", inputs, described, graph.initializers)
    model = helper.make_model(
        built,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="rcdp_hpc",
        producer_version=rcdp_hpc.__version__,
    )
    helper.set_model_props(model, metadata)
    checker.check_model(model, full_check=True)
    return model


def _metadata(program: Program, model: ModelFile) -> dict[str, str]:
    values = {
        "classes": list(program.classes),
        "sample_shape": list(program.sample_shape),
        "varying_steps": program.varying_steps,
        "training_data": model.shards,
        "facts": program.facts,
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _runner(path: Path) -> Any:
    """Return a function that computes the probabilities of samples and their lengths."""
    try:
        runtime = import_module("onnxruntime")
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        session: Any = ReferenceEvaluator(str(path))
    else:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(samples: NDArray[Any], lengths: NDArray[np.int64] | None) -> Probabilities:
        inputs = {SAMPLES: samples} if lengths is None else {SAMPLES: samples, LENGTHS: lengths}
        (result,) = session.run([PROBABILITIES], inputs)
        return np.asarray(result)

    return run
