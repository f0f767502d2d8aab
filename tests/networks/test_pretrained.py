"""The trained extractor of another model, frozen."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks.runs import assert_prediction_equals_evaluation
from search.test_extractors import read_best

from rcdp_hpc.cli import main
from rcdp_hpc.cluster.estimates import PROCESS_BYTES, Measured, Work
from rcdp_hpc.cluster.scripts import Resources
from rcdp_hpc.config import Config, load_config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.networks.assembly import make_source
from rcdp_hpc.networks.learned_source import load_learned
from rcdp_hpc.pipeline.data_checks import SourceFacts, check_settings_fit
from rcdp_hpc.pipeline.resolve import resolve
from rcdp_hpc.pipeline.run_extractor import with_model_settings
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.solve.frozen_copy import FrozenCopy

CPU = torch.device("cpu")
COMMON = [
    "data.max_samples=400", "reservoir.nodes=40", "reservoir.sequence=rows", "reservoir.states=2",
    "reservoir.input_scaling=0.2", "search.generations=0", "search.threads=1", "training.epochs=12",
    "training.threads=1", "readout.outputs=10", "readout.hidden=12", "training.batch=32", "run.progress=false",
    "optimizer.learning_rate=1e-2",
]  # fmt: skip
CONVOLUTION = ["extractor.kind=convolution", "extractor.channels=[6]", "extractor.sequence=positions",
               "extractor.whitening=2", "extractor.activation=gelu", "reservoir.kind=none"]  # fmt: skip


@pytest.fixture(scope="module")
def source_run(tmp_path_factory) -> Path:
    """The run of a small convolution without a reservoir."""
    out = tmp_path_factory.mktemp("source")
    run_stages(["prepare", "train"], load_config("digits", [*COMMON, *CONVOLUTION]), out)
    return out


def pretrained(model: Path, *changes: str) -> Config:
    return load_config("digits", [*COMMON, "extractor.kind=pretrained", f"extractor.model={model}", *changes])


@pytest.mark.parametrize(
    "changes",
    [
        ["reservoir.kind=none"],
        ["readout.kind=ridge", "reservoir.reduction=['mean', 'std']", "data.standardize=none"],
        ["readout.kind=lstm", "reservoir.reduction=all", "reservoir.input_scaling=0.4", "training.epochs=30"],
    ],
    ids=["none", "ridge", "lstm"],
)
def test_whole_runs_predict_without_the_other_model(changes, source_run, tmp_path):
    model = shutil.copy(source_run / "train/model.pt", tmp_path / "other.pt")
    config = pretrained(Path(model), *changes)
    run_stages(["prepare", "train"], config, tmp_path / "run")
    os.unlink(model)
    results = run_stages(["evaluate"], config, tmp_path / "run")
    assert results["evaluate"]["accuracy"] > 0.6
    assert_prediction_equals_evaluation(tmp_path / "run", results["evaluate"])


def test_its_sequences_are_those_of_the_trained_network(source_run, tmp_path):
    run = RunDirectory(tmp_path)
    config = pretrained(source_run, "reservoir.kind=none")
    run_stages(["prepare"], config, tmp_path)
    config = resolve(config, run, "train").effective
    assert config.extractor.channels == [6]
    assert (config.extractor.model_kind, config.extractor.model_shape) == ("convolution", [8, 8])
    source = make_source(config, (8, 8), CPU)
    load_learned(source, FrozenCopy.read(run.extractor).state)
    network = TrainedModel.load(source_run / "train/model.pt").network
    samples = torch.rand(50, 8, 8)
    with torch.no_grad():
        expected = network.extractor(network._normalised(samples.flatten(1))).flatten(1)
    assert torch.equal(source.drive(samples.numpy()), expected)
    # Statistics of the batch have no part in them.
    torch.testing.assert_close(source.drive(samples[:1].numpy()), expected[:1])
    assert not any(value.requires_grad for value in source.learned.parameters())


def test_its_weights_are_in_the_model_file_unchanged(source_run, tmp_path):
    run_stages(["prepare", "train"], pretrained(source_run), tmp_path)
    theirs, ours = (ModelFile.read(run / "train/model.pt") for run in (source_run, tmp_path))
    assert ours.learned
    for name, value in ours.learned.items():
        assert torch.equal(value, theirs.weights[name])
    assert ours.config.extractor.model_sha256 == FrozenCopy.read(tmp_path / "extractor.pt").settings["model_sha256"]
    # An extractor that was frozen can be frozen again.
    again = FrozenCopy.of_model(tmp_path)
    assert again.settings == {
        **FrozenCopy.of_model(source_run).settings,
        "model_sha256": again.settings["model_sha256"],
    }
    assert all(torch.equal(again.state[name], value) for name, value in ours.learned.items())


def test_the_search_reads_it_too(source_run, tmp_path, caplog):
    space = ["search.evaluation=train", "search.space.hidden={low=4, high=12}", "reservoir.kind=none"]
    config = pretrained(source_run, "search.generations=1", "search.population=2", "search.epochs=3", *space)
    with caplog.at_level("INFO", logger="rcdp_hpc"):
        run_stages(["prepare", "search", "train"], config, tmp_path)
    assert "'pretrained': candidates read its features, computed once (9 steps of 6 features" in caplog.text
    assert read_best(tmp_path)["accuracy"] > 0.5


def test_a_plan_knows_its_shape(source_run, tmp_path):
    measured = Measured(1.0, 1.0, 1.0, 1.0, 100, 1.0, dict.fromkeys(("prepare", "search", "train", "evaluate"), 1), "")
    config = with_model_settings(pretrained(source_run, "reservoir.kind=none"))
    (train, _) = Work(config, measured, (8, 8), 850, 10).plans("train", Resources(1, 1, "1:00"))
    assert train.memory == PROCESS_BYTES + 2 * 4 * 1000 * 9 * 6
    run_stages(["prepare", "train"], pretrained(source_run, "training.epochs=1"), tmp_path)
    missing = pretrained(tmp_path / "missing")
    assert with_model_settings(missing, RunDirectory(tmp_path)).extractor.channels == [6]
    with pytest.raises(InputError, match="there is no model"):
        with_model_settings(missing)


def test_a_resumed_training_reads_its_copy_and_ends_with_the_same_bits(source_run, tmp_path, caplog):
    model = Path(shutil.copy(source_run / "train/model.pt", tmp_path / "other.pt"))

    def trained(out: Path, epochs: int) -> dict[str, torch.Tensor]:
        config = pretrained(model, "schedule.kind=constant", f"training.epochs={epochs}")
        run_stages(["prepare", "train"], config, out)
        return torch.load(out / "train/last.pt", weights_only=True)["trainer"]["network"]

    whole = trained(tmp_path / "whole", 2)
    trained(tmp_path / "halves", 1)
    model.unlink()
    with caplog.at_level("INFO", logger="rcdp_hpc"):
        halves = trained(tmp_path / "halves", 2)
    assert "there is no model" in caplog.text
    assert "The run continues with its copy" in caplog.text
    assert all(torch.equal(halves[name], value) for name, value in whole.items())


def test_a_changed_model_is_refused_on_resume(source_run, tmp_path, capsys):
    model = Path(shutil.copy(source_run / "train/model.pt", tmp_path / "other.pt"))
    run_stages(["prepare", "train"], pretrained(model, "training.epochs=1"), tmp_path / "run")
    other = load_config("digits", [*COMMON, *CONVOLUTION, "extractor.channels=[5]", "training.epochs=1"])
    run_stages(["prepare", "train"], other, tmp_path / "second")
    shutil.copy(tmp_path / "second/train/model.pt", model)
    capsys.readouterr()
    assert main(["train", "--out", str(tmp_path / "run")]) == 2
    assert f"{model} is not the model that {tmp_path / 'run'} was started with" in capsys.readouterr().err
    assert main(["train", "--out", str(tmp_path / "run"), "--restart"]) == 0
    assert ModelFile.read(tmp_path / "run/train/model.pt").config.extractor.channels == [5]
    assert not list((tmp_path / "run").glob("extractor.pt?*"))


def test_a_damaged_copy_is_refused(source_run, tmp_path):
    config = pretrained(source_run, "training.epochs=1")
    run_stages(["prepare", "train"], config, tmp_path)
    os.truncate(tmp_path / "extractor.pt", 700)
    (tmp_path / "train/last.pt").unlink()
    with pytest.raises(DataDamagedError, match=r"extractor.pt: has no SHA-256 .* start search and train again"):
        run_stages(["train"], config, tmp_path)


def test_models_that_cannot_be_frozen_are_refused_before_anything_is_written(source_run, tmp_path, capsys):
    plain = tmp_path / "plain"
    run_stages(["prepare", "train"], load_config("digits", [*COMMON, "training.epochs=1"]), plain)
    damaged = Path(shutil.copy(source_run / "train/model.pt", tmp_path / "damaged.pt"))
    os.truncate(damaged, 3000)
    (tmp_path / "text.pt").write_text("nothing")
    cases = {
        tmp_path / "missing.pt": (2, "there is no model"),
        tmp_path: (2, "train it first"),
        plain: (2, "this model has extractor.kind = 'none', which is not trained by gradients"),
        plain / "train/ridge.pt": (3, "contains the baseline instead of the model"),
        damaged: (3, "extractor.model names this file: restore it"),
        tmp_path / "text.pt": (3, "extractor.model names this file"),
        tmp_path / "run": (2, "this run writes that model itself"),
    }
    for model, (code, message) in cases.items():
        settings = [part for value in [*COMMON, "extractor.kind=pretrained", f"extractor.model={model}"]
                    for part in ("--set", value)]  # fmt: skip
        assert main(["run", "digits", "--out", str(tmp_path / "run"), *settings]) == code
        assert message in capsys.readouterr().err
        assert not (tmp_path / "run/shards").exists()


def test_an_ensemble_has_several_extractors(source_run, tmp_path):
    model = ModelFile.read(source_run / "train/model.pt")
    ensemble = model.config.model_copy(
        update={"parallel": model.config.parallel.model_copy(update={"replicas": "ensemble"})}
    )
    members = {f"members.{number}.{name}": value for number in (0, 1) for name, value in model.weights.items()}
    ModelFile.write(tmp_path / "ensemble.pt", ensemble, ShardReader(source_run / "shards"), members)
    with pytest.raises(InputError, match=r"an ensemble of networks .* has several extractors"):
        FrozenCopy.of_model(tmp_path / "ensemble.pt")


def test_weights_of_another_architecture_are_damage(source_run, tmp_path):
    model = ModelFile.read(source_run / "train/model.pt")
    wider = model.config.model_copy(update={"extractor": model.config.extractor.model_copy(update={"channels": [7]})})
    ModelFile.write(tmp_path / "model.pt", wider, ShardReader(source_run / "shards"), model.weights)
    with pytest.raises(DataDamagedError, match=r"extractor: '.*' has the shape .* the settings need"):
        FrozenCopy.of_model(tmp_path / "model.pt")


def test_samples_of_another_shape_are_refused_by_the_preparation(source_run):
    config = FrozenCopy.of_model(source_run).applied(pretrained(source_run))
    facts = SourceFacts("t.npz", (10, 8), None, ["a", "b"], [30, 20], 50)
    with pytest.raises(InputError, match=r"trained on samples of the shape \(8, 8\), and these have \(10, 8\)"):
        check_settings_fit(config, facts)
    series = SourceFacts("t.ts", (8, 8), 4, ["a", "b"], [30, 20], 50)
    with pytest.raises(InputError, match=r"'pretrained' reads samples of one length"):
        check_settings_fit(config, series)


def test_samples_on_another_scale_are_refused(source_run, tmp_path):
    generator = np.random.default_rng(1)
    y = np.arange(120) % 3
    path = tmp_path / "values.npz"
    np.savez(path, x=generator.normal(size=(120, 8, 8)).astype(np.float32) + y[:, None, None], y=y)
    settings = ["data.source=npz", f"data.path={path}", "data.class_keep_fractions=[]"]
    config = pretrained(source_run, *settings, "data.standardize=standard", "data.kind=series")
    with pytest.raises(InputError, match=r"standardised by data.standardize none, and those of .* standard: prepare"):
        run_stages(["prepare", "train"], config, tmp_path / "standard")
    config = pretrained(source_run, *settings, "data.standardize=none")
    with pytest.raises(InputError, match=r"were multiplied by 0.0625, and those of .* are multiplied by 1"):
        run_stages(["prepare", "train"], config, tmp_path / "scale")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["extractor.model="], "needs extractor.model"),
        (["augment.flip=true"], "augment needs a trained extractor"),
        (["reservoir.sequence=both", "reservoir.scans=['rows']"], "makes the sequences"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        pretrained(tmp_path, *changes)


OWN = """
from torch import nn


class Halves(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.map = nn.Linear(shape[1], 5)
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        return self.norm(self.map(x).transpose(1, 2)).transpose(1, 2)
"""


def test_a_trained_extractor_of_the_user_is_frozen_with_consent(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    (tmp_path / "their_extractors.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_extractors", raising=False)
    config = load_config("digits", [*COMMON, "extractor.kind=their_extractors:Halves", "reservoir.kind=none"])
    run_stages(["prepare", "train"], config, tmp_path / "source")
    results = run_stages(["prepare", "train", "evaluate"], pretrained(tmp_path / "source"), tmp_path / "run")
    assert_prediction_equals_evaluation(tmp_path / "run", results["evaluate"])
    assert ModelFile.read(tmp_path / "run/train/model.pt").code.keys() == {"their_extractors"}

    # Code that another user's model names is not run.
    shutil.rmtree(tmp_path / "home")
    with pytest.raises(InputError, match=r"names code that would be run, .*their_extractors:Halves"):
        run_stages(["prepare"], pretrained(tmp_path / "source"), tmp_path / "new")
    with pytest.raises(InputError, match=r"extractor.pt: names code that would be run"):
        run_stages(["train"], pretrained(tmp_path / "source"), tmp_path / "run")
