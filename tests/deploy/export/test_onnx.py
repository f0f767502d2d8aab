"""Trained models as ONNX files: every kind of part, series with lengths, 8 bits, and a process without this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from deploy.conftest import trained_run
from deploy.export import programs as operations
from deploy.export.test_lowering import CASES, NETWORK, SERIES, SMALL
from made_models import made_model, samples_of

from rcdp_hpc.cli import main
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.deploy.export import onnx_writer
from rcdp_hpc.deploy.export.export import export
from rcdp_hpc.deploy.export.lowering import lower
from rcdp_hpc.deploy.export.onnx_writer import OnnxWriter, onnx_model
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.quantization import rounded_model
from rcdp_hpc.model.trained_model import TrainedModel

UNEQUAL = {
    "reductions": [
        *NETWORK, 'reservoir.reduction=["mean_std", "last", "states", "segments", "max"]', "reservoir.states=3",
        "reservoir.warm_up=1", "reservoir.bidirectional=true", 'reservoir.series_scaling="standard"',
        "reservoir.differences=true", "reservoir.window=2",
    ],
    "windows": [
        *NETWORK, 'reservoir.sequence="windows"', "reservoir.piece_size=[3]", "reservoir.piece_stride=[2]",
        'reservoir.piece_edge="drop"', "reservoir.steps=[0, -1]",
    ],
    "lstm": ['readout.kind="lstm"', *SMALL, 'reservoir.reduction=["all"]'],
    "kernels": [*NETWORK, 'extractor.kind="kernels"', "extractor.kernels=672"],
}  # fmt: skip
LENGTHS = np.array([14, 9, 11, 14, 10, 13, 9, 12, 14])
# Runs with NumPy and onnxruntime alone.
ELSEWHERE = """
import sys
sys.modules["rcdp_hpc"] = sys.modules["torch"] = sys.modules["onnx"] = None
import json
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
probabilities, labels = session.run(["probabilities", "label"], {"samples": np.load(sys.argv[2])})
np.save(sys.argv[3], probabilities)
print(*(classes[label] for label in labels))
"""


def run_onnx(program, samples, lengths=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx_model(program, {}).SerializeToString(), options)
    inputs = {"samples": samples.astype(program.sample_dtype)}
    return session.run(None, inputs if lengths is None else {**inputs, "lengths": lengths})[0]


@pytest.mark.parametrize("name", CASES)
def test_a_model_gives_the_same_probabilities(name):
    model = made_model(*CASES[name])
    samples = samples_of(model)
    expected = model.probabilities(samples, scaled=False)
    program = lower(model, varying_steps=False)
    assert np.abs(run_onnx(program, samples) - expected).max() <= 2e-6
    assert np.abs(run_onnx(program, samples[4:5]) - expected[4:5]).max() <= 2e-6


@pytest.mark.parametrize("name", UNEQUAL)
def test_series_of_unequal_length(name):
    model = made_model(UNEQUAL[name], SERIES, Standardization("standard", np.full(3, 0.5), np.full(3, 2.0)))
    samples = samples_of(model)
    for row, length in enumerate(LENGTHS):
        samples[row, length:] = 7
    expected = model.probabilities(samples, scaled=False, lengths=LENGTHS)
    program = lower(model, varying_steps=True)
    assert np.abs(run_onnx(program, samples, LENGTHS) - expected).max() <= 2e-6
    assert np.abs(run_onnx(program, samples[1:3, :11], LENGTHS[1:3]) - expected[1:3]).max() <= 2e-6


def test_an_ensemble_and_its_8_bits():
    model = made_model([*NETWORK, 'parallel.replicas="ensemble"'], (8, 8), members=2)
    model = TrainedModel(rounded_model(model.file))
    samples, program = samples_of(model), lower(model, varying_steps=False)
    types = {tensor.data_type for tensor in onnx_model(program, {}).graph.initializer}
    assert onnx.TensorProto.INT8 in types
    # With the rounded weights, also after the optimisations of onnxruntime.
    assert np.abs(run_onnx(program, samples) - model.probabilities(samples, scaled=False)).max() <= 2e-6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("run"), [])


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    return path, export(run.path, path)


def test_the_file_is_checked_on_all_test_rows(exported):
    _, result = exported
    assert result.rows >= 100
    assert result.other_labels == 0
    assert result.largest_difference <= 1e-5


def test_the_file_runs_without_this_package(run, exported, tmp_path):
    path, _ = exported
    samples = np.random.default_rng(0).integers(0, 17, (20, 8, 8)).astype(np.float32)
    np.save(tmp_path / "samples.npy", samples)
    command = [sys.executable, "-I", "-c", ELSEWHERE, path, tmp_path / "samples.npy", tmp_path / "found.npy"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    model = TrainedModel.load(run.model)
    expected = model.answers(samples, scaled=False)
    assert np.abs(np.load(tmp_path / "found.npy") - expected.probabilities).max() <= 1e-5
    # The answered class is not always the one with the largest calibrated probability.
    assert done.stdout.split() == [model.classes[label] for label in expected.predicted]


def test_the_metadata_name_classes_and_training_data(run, exported):
    properties = {entry.key: entry.value for entry in onnx.load(exported[0]).metadata_props}
    assert json.loads(properties["classes"]) == [str(digit) for digit in range(10)]
    assert json.loads(properties["sample_shape"]) == [8, 8]
    assert properties["training_data"] == ModelFile.read(run.model).shards


def test_the_check_runs_without_onnxruntime(run, exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    samples = np.random.default_rng(0).integers(0, 17, (5, 8, 8)).astype(np.float32)
    expected = TrainedModel.load(run.model).answers(samples, scaled=False).probabilities
    assert np.abs(OnnxWriter().predict(exported[0], samples, None) - expected).max() <= 1e-5


def test_a_model_that_the_format_cannot_hold_is_refused(monkeypatch):
    program = lower(made_model(*CASES["eq. 11"]), varying_steps=False)
    monkeypatch.setattr(onnx_writer, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match=r"\.onnx: .* an ONNX file holds at most 2 GiB"):
        OnnxWriter().check(program)


def test_a_sparse_reservoir_that_is_too_large_when_dense_is_refused(monkeypatch):
    case = next(case for case in operations.CASES if case.kind == "reservoir")
    monkeypatch.setattr(onnx_writer, "MOST_BYTES", 1500)
    with pytest.raises(InputError, match=r"the dense connection matrix of 20 nodes .* Export this model as \.npz"):
        OnnxWriter().check(case.program(False))


def test_the_command_refuses_without_the_package(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(run.path), "--to", str(tmp_path / "model.onnx")]) == 2
    assert "pip install -c constraints.txt onnx safetensors" in capsys.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.iterdir())
