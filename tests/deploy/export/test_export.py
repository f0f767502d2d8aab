"""rcdp export as a whole, the .npz file and its predictor, and predictions without torch."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deploy.conftest import trained_run
from made_models import made_model, samples_of
from whole_runs import series_file

import rcdp_hpc
from rcdp_hpc.cli import main
from rcdp_hpc.config.choices.export_formats import EXPORT_FORMATS
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.deploy.export import rcdp_predict
from rcdp_hpc.deploy.export.base import Writer
from rcdp_hpc.deploy.export.check import Check, Difference
from rcdp_hpc.deploy.export.export import export
from rcdp_hpc.deploy.export.lowering import lower
from rcdp_hpc.deploy.export.npz_writer import NpzWriter
from rcdp_hpc.errors import DataDamagedError, InputError, StageFailedError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.quantization import rounded_model
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.user_code import load_choice

# The packages are missing as if they were not installed, in the interpreter and in what it imports.
BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"No module named {{name!r}} (blocked)")
sys.meta_path.insert(0, Block())
"""
NETWORK = ["readout.kind=network", "readout.hidden=8", "readout.outputs=8", "training.epochs=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return trained_run(tmp_path_factory.mktemp("run"), [], ("prepare", "train", "evaluate"))


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.npz"
    assert main(["export", str(run.path), "--to", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def samples(run) -> np.ndarray:
    """All test samples, raw."""
    shards = ShardReader(run.shards)
    return shards.read("test", 0, shards.rows("test")).x / np.float32(shards.scale)


def blocked(code: str, *packages: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a folder without some packages."""
    whole = BLOCKED.format(blocked=packages) + code
    return subprocess.run([sys.executable, "-c", whole], cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_file_and_what_is_next_to_it(run, exported):
    assert sorted(path.name for path in exported.parent.iterdir()) == ["model.npz", "model.npz.md", "rcdp_predict.py"]
    card = exported.with_name("model.npz.md").read_text()
    assert 'load("model.npz")' in card
    assert ModelFile.read(run.model).shards in card


def test_the_check_compares_all_test_rows(run, samples, tmp_path):
    result = export(run.path, tmp_path / "model.npz")
    assert result.rows == len(samples)
    assert result.other_labels == 0
    assert result.largest_difference <= 1e-5
    assert "359 test rows compared with the model: largest difference" in result.summary


def test_the_predictor_needs_numpy_alone(exported, run, samples):
    np.save(exported.parent / "x.npy", samples)
    code = (
        "import numpy, rcdp_predict\n"
        "model = rcdp_predict.load('model.npz')\n"
        "numpy.save('p.npy', model.predict_proba(numpy.load('x.npy')))\n"
        "print(*model.predict(numpy.load('x.npy')))\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'rcdp_hpc', 'torch', 'scipy', 'h5py'}))\n"
    )
    done = blocked(code, "rcdp_hpc", "torch", "scipy", "h5py", "pydantic", folder=exported.parent)
    assert not done.returncode, done.stderr
    labels, loaded = done.stdout.splitlines()
    expected = rcdp_hpc.load(run.path)
    assert labels.split() == expected.predict(samples).tolist()
    assert np.abs(np.load(exported.parent / "p.npy") - expected.predict_proba(samples)).max() <= 1e-5
    assert loaded == "[]"


def test_the_predictor_is_a_program_too(exported, samples):
    np.save(exported.parent / "few.npy", samples[:3])
    command = [sys.executable, "-I", "rcdp_predict.py", "model.npz", "few.npy"]
    done = subprocess.run(command, cwd=exported.parent, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == rcdp_predict.load(exported).predict(samples[:3]).tolist()


def test_prediction_without_torch(exported, samples, tmp_path):
    np.savez(tmp_path / "new.npz", x=samples)
    code = (
        "import numpy, rcdp_hpc\n"
        "from rcdp_hpc.cli import main\n"
        f"model = rcdp_hpc.load({str(exported)!r})\n"
        "assert model.predict_proba(numpy.load('new.npz')['x']).shape[1] == 10\n"
        f"sys.exit(main(['predict', {str(exported)!r}, 'new.npz', '--to', 'labels.csv']))\n"
    )
    done = blocked(code, "torch", "mpi4py", "horovod", folder=tmp_path)
    assert not done.returncode, done.stderr
    with (tmp_path / "labels.csv").open() as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    assert labels == rcdp_predict.load(exported).predict(samples).tolist()


def test_an_exported_file_predicts_like_the_model(exported, run, samples, tmp_path):
    np.savez(tmp_path / "new.npz", x=samples)
    for model in (exported, run.path):
        assert main(["predict", str(model), str(tmp_path / "new.npz"), "--to", str(tmp_path / "labels.npz")]) == 0
        found = np.load(tmp_path / "labels.npz")["calibrated_probability"]
        assert np.abs(found - rcdp_hpc.predict(exported, samples).probabilities).max() <= 1e-5
    assert repr(rcdp_hpc.load(exported)) == "<model.npz: samples (8, 8), 10 classes>"


def test_samples_are_checked_as_for_a_model(exported, samples, tmp_path):
    model = rcdp_hpc.load(exported)
    with pytest.raises(InputError, match=r"samples of shape \(8, 7\); this model takes \(8, 8\)"):
        model.predict_proba(samples[:, :, 1:])
    with pytest.raises(InputError, match="another scale"):
        model.predict_proba(samples * 100)
    assert rcdp_hpc.load(exported, any_scale=True).predict(samples * 100).shape == (len(samples),)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "other"])
def test_a_damaged_file_is_refused(exported, tmp_path, damage):
    path = tmp_path / "model.npz"
    content = bytearray(exported.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[:-100] if damage == "truncated" else content)
    if damage == "other":
        np.savez(path, x=np.zeros(3))
    with pytest.raises(ValueError, match=str(path)):
        rcdp_predict.load(path)
    with pytest.raises(DataDamagedError, match="export the model again"):
        rcdp_hpc.load(path)
    assert main(["predict", str(path), str(path), "--to", str(tmp_path / "labels.csv")]) == 3


def test_without_test_rows_the_check_is_refused(run, tmp_path, capsys):
    alone = tmp_path / "model.pt"
    shutil.copy(run.model, alone)
    to = tmp_path / "out/model.npz"
    with pytest.raises(InputError, match="add --no-check"):
        export(alone, to)
    assert not to.exists()
    assert main(["export", str(alone), "--to", str(to), "--no-check"]) == 0
    assert "not checked against the model" in capsys.readouterr().out
    assert rcdp_predict.load(to).classes == [str(number) for number in range(10)]


def test_other_suffixes_are_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"files whose names end in \.npz, "):
        export(run.path, tmp_path / "model.zip")


def test_a_run_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no trained model yet"):
        export(tmp_path, tmp_path / "model.npz")


def test_a_file_that_predicts_otherwise_is_removed(run, tmp_path, monkeypatch):
    predict = NpzWriter.predict
    monkeypatch.setattr(NpzWriter, "predict", lambda self, *arguments: predict(self, *arguments) + np.float32(2e-5))
    with pytest.raises(StageFailedError, match="gives other predictions than the model"):
        export(run.path, tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


def test_classes_of_the_user_are_refused(tmp_path, monkeypatch):
    (tmp_path / "my_reservoir.py").write_text("import torch\n\n\ndef soft(x):\n    return x / (1 + x.abs())\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = trained_run(tmp_path / "run", ["reservoir.activation=my_reservoir:soft"])
    with pytest.raises(InputError, match=r"reservoir.activation = 'my_reservoir:soft' is a class of your own"):
        export(run.path, tmp_path / "model.npz")
    assert not (tmp_path / "model.npz").exists()


def test_sixteen_bits_of_the_model_are_reported(tmp_path):
    run = trained_run(tmp_path / "run", ["reservoir.kernel=dense-bf16"])
    result = export(run.path, tmp_path / "model.npz")
    assert result.largest_difference <= 1e-5
    assert result.check is not None
    assert result.check.rounded is not None
    assert result.check.rounded.largest > 1e-5
    assert "reservoir.kernel = dense-bf16" in result.summary


def test_series_of_unequal_length(tmp_path):
    source = series_file(tmp_path / "waves.ts", 90, seed=1)
    settings = ["data.source=ts", f"data.path={source}", "reservoir.reduction=mean,last", *NETWORK]
    run = trained_run(tmp_path / "run", [*settings, "data.validation_fraction=0.2", "data.test_fraction=0.2"])
    for suffix in ("npz", "onnx", "safetensors"):
        assert export(run.path, tmp_path / f"model.{suffix}").other_labels == 0
    model, exported = rcdp_hpc.load(run.path), rcdp_hpc.load(tmp_path / "model.npz")
    series = [np.sin(np.arange(steps * 2.0).reshape(steps, 2) / 5) for steps in (5, 9, 14)]
    assert np.abs(model.predict_proba(series) - exported.predict_proba(series)).max() <= 1e-5


def test_a_table_with_gaps_and_categories(tmp_path):
    generator = np.random.default_rng(0)
    rows = ["size,colour,weight,label"]
    for row in range(120):
        label, size = row % 2, "" if row % 7 == 0 else f"{1e6 + row % 2 + generator.normal() / 4:.4f}"
        rows.append(f"{size},{('red', 'blue')[row % 3 % 2]},{generator.normal() + label:.4f},{'ab'[label]}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    settings = [
        "data.source=csv",
        f"data.path={table}",
        "data.label_column=label",
        "data.missing=mean",
        'data.category_columns=["colour"]',
        *NETWORK,
    ]
    run = trained_run(tmp_path / "run", [*settings, "data.balance=none"])
    for suffix in ("npz", "onnx", "safetensors"):
        assert export(run.path, tmp_path / f"model.{suffix}").other_labels == 0
    new = tmp_path / "new.csv"
    new.write_text("colour,size,weight\nred,1000000.3,0.2\nblue,,1.5\n")
    expected = rcdp_hpc.load(run.path).predict_proba(new)
    assert np.abs(rcdp_hpc.load(tmp_path / "model.npz").predict_proba(new) - expected).max() <= 1e-5


def test_zeros_and_codes_are_stored_as_such(tmp_path):
    model = made_model(["readout.kind=network", "reservoir.nodes=40"], (8, 8))
    weights = model.file.weights["output_map.weight"]
    sizes = {}
    for name, file in (("dense", model.file), ("codes", rounded_model(model.file)), ("sparse", None)):
        if file is None:
            weights[:, 2:] = 0
            file = model.file
        current = TrainedModel(file)
        program = lower(current, varying_steps=False)
        path = tmp_path / f"{name}.npz"
        NpzWriter().write(program, current.file, path)
        sizes[name] = path.stat().st_size
        samples = samples_of(current)
        expected = current.probabilities(samples, scaled=False)
        assert np.abs(rcdp_predict.load(path).predict_proba(samples) - expected).max() <= 2e-6
    assert sizes["codes"] < sizes["dense"] - 2 * weights.numel()
    assert sizes["sparse"] < sizes["dense"] - 3 * weights.numel()


@pytest.mark.parametrize("name", EXPORT_FORMATS.names)
def test_every_format_has_a_writer(name):
    writer = load_choice(EXPORT_FORMATS, name)()
    assert isinstance(writer, Writer)
    assert writer.name == EXPORT_FORMATS[name].suffix


def test_float64_shows_the_rounding_of_float32():
    settings = [
        "reservoir.spectral_radius=10",
        "reservoir.leak=1",
        "reservoir.input_scaling=0.1",
        "reservoir.sequence=pixels",
        "reservoir.nodes=200",
    ]
    program = lower(made_model([*settings, "readout.kind=network"], (8, 8)), varying_steps=False)
    samples = np.random.default_rng(0).normal(size=(20, 8, 8))
    double = program.run(samples, double=True)
    assert double.dtype == np.float64
    assert np.abs(program.run(samples) - double).max() > 1e-5
    calm = lower(made_model(["reservoir.spectral_radius=0.5", "readout.kind=network"], (8, 8)), varying_steps=False)
    assert np.abs(calm.run(samples) - calm.run(samples, double=True)).max() < 2e-6


def test_a_difference_that_float32_explains_passes():
    far = Difference(2e-5, 0)
    assert not Check(10, far).passed
    assert Check(10, far, own_rounding=1e-5).passed
    assert "(the rounding of float32 alone makes 1.0e-05 in the model)" in str(Check(10, far, own_rounding=1e-5))
    assert not Check(10, Difference(2e-3, 0), own_rounding=1.0).passed
    assert not Check(10, Difference(float("nan"), 0)).passed
