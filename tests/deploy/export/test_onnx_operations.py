"""Each operation of a program as ONNX nodes, in onnxruntime."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from deploy.export.programs import CASES, Case, numbers

from rcdp_hpc.deploy.export.onnx.elementwise import activated
from rcdp_hpc.deploy.export.onnx.graph import Graph
from rcdp_hpc.deploy.export.onnx.table import EMITTERS
from rcdp_hpc.deploy.export.onnx_writer import OnnxWriter, onnx_model
from rcdp_hpc.deploy.export.program import KINDS, Op
from rcdp_hpc.errors import InputError

LENGTHS = np.array([11, 4, 7, 11, 5, 6, 9])


def session(program):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = onnx_model(program, {}).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def test_every_operation_has_a_form_and_a_case():
    assert set(EMITTERS) == set(KINDS)
    tried = {case.kind for case in CASES} | {"concat", "weighted_sum", "window_lengths"}
    assert tried == set(KINDS)


@pytest.mark.parametrize(
    ("case", "varying"),
    [(case, varying) for case, varying in itertools.product(CASES, [False, True]) if case.series or not varying],
    ids=lambda value: value.name if isinstance(value, Case) else "lengths" * value,
)
def test_an_operation_gives_the_numbers_of_numpy(case, varying):
    program = case.program(varying)
    samples, lengths = case.samples(len(LENGTHS)), LENGTHS * case.shape[0] // 11
    inputs = {"samples": samples, "lengths": lengths} if varying else {"samples": samples}
    run = session(program)
    expected = program.run(samples, lengths if varying else None)
    assert run.run(None, inputs)[0] == pytest.approx(expected, abs=2e-6)
    # One sample, as part of any number of them.
    one = {name: values[2:3] for name, values in inputs.items()}
    assert run.run(None, one)[0] == pytest.approx(expected[2:3], abs=2e-6)


def test_values_of_several_operations_are_joined():
    ops = (
        Op("slice", ("samples",), "first", {"axis": 1, "start": 0, "stop": 2, "step": 1}),
        Op("concat", ("first", "samples"), "joined", {"axis": 1}),
        Op("softmax", ("joined",), "shares", {}),
        Op("activation", ("shares",), "logarithms", {"name": "log"}),
        Op("weighted_sum", ("logarithms", "shares"), "sum", {"weights": [0.25, 0.75]}),
    )
    program = replace(Case("softmax", shape=(3,)).program(False), classes=tuple("abcde"), ops=ops, output="sum")
    samples = numbers(4, 3)
    found, label = session(program).run(None, {"samples": samples})
    assert found == pytest.approx(program.run(samples), abs=1e-6)
    assert label.tolist() == found.argmax(1).tolist()


def test_windows_of_series_of_unequal_length():
    ops = (
        Op("windows", ("samples",), "pieces", {"size": 4, "stride": 2}),
        Op("window_lengths", ("lengths",), "counts", {"size": 4, "stride": 2}),
        Op("reduce", ("pieces", "counts"), "kept", {"name": "mean", "warm_up": 0}),
        Op("reshape", ("kept",), "flat", {"shape": [12]}),
    )
    program = replace(Case("blank").program(True), classes=tuple("abcdefghijkl"), ops=ops, output="flat")
    run = session(program)
    for steps in (11, 14):  # longer than the series of the training, too
        samples = numbers(3, steps, 3)
        found = run.run(None, {"samples": samples, "lengths": np.array([steps, 4, 7])})[0]
        assert found == pytest.approx(program.run(samples, np.array([steps, 4, 7])), abs=1e-6)


def test_zeros_and_quantised_numbers_make_the_file_small():
    cases = [case for case in CASES if case.name == "linear" and case.shape == (60,)]
    sparse, quantized = (len(onnx_model(case.program(False), {}).SerializeToString()) for case in cases)
    assert sparse < 3500  # 2400 numbers, of which a tenth is not 0
    assert quantized < 2700


def test_an_activation_without_a_form_is_refused():
    with pytest.raises(InputError, match=r"\.onnx: there is no form of the activation 'swish'"):
        activated(Graph(CASES[0].program(False)), "samples", "swish", {})


def test_without_the_package_the_message_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"\.onnx: needs the package onnx.*pip install -c constraints.txt onnx"):
        OnnxWriter()
