"""Models as safetensors files, and back."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from deploy.conftest import trained_run

import rcdp_hpc
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.deploy.export.safetensors_file import _digest, read_safetensors, write_safetensors
from rcdp_hpc.deploy.export.safetensors_writer import SafetensorsWriter
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.packing import Quantized
from rcdp_hpc.model.trained_model import TrainedModel


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = ["data.standardize=standard", "readout.kind=network", "readout.hidden=8", "training.epochs=1"]
    return trained_run(tmp_path_factory.mktemp("run"), settings)


@pytest.fixture
def exported(run, tmp_path) -> Path:
    write_safetensors(run.model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def samples() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 17, (50, 8, 8)).astype(np.float32)


def test_a_model_is_the_same_when_it_is_read_back(run, exported):
    before, after = ModelFile.read(run.model), read_safetensors(exported)
    assert after.config == before.config
    assert (after.classes, after.sample_shape, after.scale) == (before.classes, before.sample_shape, before.scale)
    assert after.weights.keys() == before.weights.keys()
    expected = TrainedModel(before).answers(samples(), scaled=False).probabilities
    assert np.array_equal(TrainedModel(after).answers(samples(), scaled=False).probabilities, expected)
    assert SafetensorsWriter().predict(exported, samples(), None) == pytest.approx(expected, abs=1e-6)


def test_the_file_predicts_as_the_model_does(run, exported):
    expected = rcdp_hpc.load(run.model).predict_proba(samples())
    assert np.array_equal(rcdp_hpc.load(exported).predict_proba(samples()), expected)


def test_a_file_that_names_code_is_refused(run, exported):
    tensors = safetensors.numpy.load_file(exported)
    with safetensors.safe_open(exported, framework="numpy") as file:
        metadata = file.metadata()
    del metadata["sha256"]
    settings = json.loads(metadata["settings"])
    settings["readout"]["kind"] = "os:system"
    metadata["settings"] = json.dumps(settings)
    metadata["sha256"] = _digest(metadata, tensors)
    safetensors.numpy.save_file(tensors, exported, metadata)
    with pytest.raises(InputError, match=r"readout.kind = 'os:system' is a class of your own"):
        rcdp_hpc.load(exported)


def test_other_programs_read_weights_and_metadata(run, exported):
    tensors = safetensors.numpy.load_file(exported)
    weights = ModelFile.read(run.model).weights
    assert np.array_equal(tensors["weights.output_map.weight"], weights["output_map.weight"].numpy())
    with safetensors.safe_open(exported, framework="numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["classes"]) == [str(digit) for digit in range(10)]
    assert json.loads(metadata["settings"])["reservoir"]["nodes"] == 30
    assert json.loads(metadata["standardization"])["method"] == "standard"


def test_numbers_of_8_bits_stay_so(run, tmp_path):
    file = ModelFile.read(run.model)
    codes = Quantized.of(file.weights["output_map.weight"].numpy())
    weights = {**file.weights, "output_map.weight": torch.from_numpy(codes.dense())}
    quantized = {"output_map.weight": codes}
    ModelFile.write(tmp_path / "model.pt", file.config, ShardReader(run.shards), weights, quantized=quantized)
    write_safetensors(tmp_path / "model.pt", tmp_path / "model.safetensors")
    assert safetensors.numpy.load_file(tmp_path / "model.safetensors")["weights.output_map.weight"].dtype == np.int8
    after = read_safetensors(tmp_path / "model.safetensors")
    assert np.array_equal(after.quantized["output_map.weight"].codes, codes.codes)
    assert torch.equal(after.weights["output_map.weight"], weights["output_map.weight"])


def test_altered_and_truncated_files_are_refused(exported):
    content = exported.read_bytes()
    exported.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataDamagedError, match="SHA-256 differs"):
        read_safetensors(exported)
    exported.write_bytes(content.replace(b"dense-fp32", b"dense-bf16"))
    with pytest.raises(DataDamagedError, match="SHA-256 differs"):
        read_safetensors(exported)
    exported.write_bytes(content[:-1])
    with pytest.raises(DataDamagedError, match="is truncated or damaged"):
        read_safetensors(exported)
    exported.write_bytes(struct.pack("<Q", 2**60) + content[8:])
    with pytest.raises(DataDamagedError, match="is truncated or damaged"):
        read_safetensors(exported)


def test_other_files_are_refused(tmp_path):
    safetensors.numpy.save_file({"x": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(DataDamagedError, match=r"rcdp export. did not write it"):
        read_safetensors(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="there is no such file"):
        read_safetensors(tmp_path / "missing.safetensors")


def test_without_the_package_the_message_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(InputError, match=r"\.safetensors: needs the package safetensors.*pip install -c"):
        SafetensorsWriter()
