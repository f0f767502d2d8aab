"""Model files with a correct digest and wrong content: one message, no code run, no memory allocated."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch

from rcdp_hpc.cli.commands import main
from rcdp_hpc.config import load_config
from rcdp_hpc.errors import DataDamagedError, InputError, RcdpError, StageFailedError
from rcdp_hpc.model import checkpoint, model_size, trained_model
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline.stages import run_stages

SETTINGS = (
    "search.generations=0", "data.class_keep_fractions=[]", "reservoir.nodes=30", "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=64", "training.epochs=1", "training.threads=1", "readout.outputs=16",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    config = load_config("digits", SETTINGS)
    run_stages(["prepare", "train"], config, out)
    return out


@pytest.fixture
def foreign(run, tmp_path):
    """Return a function that changes the content of the model and returns the path of the file."""

    def made(change, name="model.pt"):
        content = checkpoint.load(run / "train" / name)
        del content["format"]
        settings = json.loads(content["settings"])
        content["settings"] = settings
        content = change(content) or content
        if not isinstance(content.get("settings"), str | None):
            content["settings"] = json.dumps(content["settings"])
        checkpoint.save(tmp_path / "model.pt", content)
        return tmp_path / "model.pt"

    return made


def refused(path, kind=DataDamagedError) -> str:
    with pytest.raises(RcdpError) as found:
        TrainedModel.load(path)
    assert type(found.value) is kind, found.value
    message = str(found.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_the_model_as_it_was_written_is_read(foreign):
    assert TrainedModel.load(foreign(lambda content: None)).classes == [str(digit) for digit in range(10)]


def test_every_missing_field_is_named(foreign, run):
    # Files of earlier versions have no link, rows and prediction.
    names = set(checkpoint.load(run / "train/model.pt")) - {"format", "link", "rows", "prediction"}
    assert len(names) >= 12
    for name in sorted(names):
        assert f"its field {name} is not" in refused(foreign(lambda content, name=name: content.pop(name) and None))


def test_another_link_is_refused(foreign):
    for link in ("sigmoid", "", None, 1):
        assert "its field link is not" in refused(foreign(lambda content, link=link: content.update(link=link)))


def test_a_loss_that_a_model_names_is_not_imported_without_consent(foreign):
    def change(content):
        content["settings"]["loss"]["kind"] = "evil_losses:Loss"

    assert "names code that would be run" in refused(foreign(change), InputError)


def test_a_baseline_in_the_place_of_the_model_is_refused(run, tmp_path):
    shutil.copy(run / "train/ridge.pt", tmp_path / "model.pt")
    assert "contains the baseline instead of the model" in refused(tmp_path / "model.pt")


WRONG = {
    "role": ["other", None, 3],
    "settings": ["no JSON", "[]", "{}", 3, "[" * 100_000],
    "classes": [[], "text", [1, 2], ["a", "a"], {"a": 1}, None],
    "sample_shape": [[], [0, 8], [-1], [8.0, 8.0], [1, 2, 3, 4], "8x8", [True]],
    "scale": [0, -1.0, math.nan, math.inf, "1", None],
    "shards": [None, 3],
    "weights": [None, [], {"w": 3}, {3: torch.zeros(1)}, {"w": torch.zeros(1)}, {}],
    "learned": [None, {"biases": torch.zeros(3)}],
    "matrices": [None, {"input": torch.zeros(3)}],
    "columns": [3, {"features": ["a"]}, {"features": ["a"], "categories": []}, {"unknown": 1}, []],
    "standardization": [
        [], {"method": "standard"}, {"method": "else", "center": [0.0], "deviation": [1.0]},
        {"method": "standard", "center": [0.0], "deviation": [0.0]},
        {"method": "standard", "center": [math.nan], "deviation": [1.0]},
        {"method": "standard", "center": [[0.0]], "deviation": [1.0]},
        {"method": "standard", "center": [0.0] * 5, "deviation": [1.0] * 5},
    ],
    "ranges": [3, {}, {"kind": "images"}],
    "reading": [3, {"unknown": 1}, {"missing": "else"}, {"source": 3}],
    "code": [None, {"a": 1}, []],
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_fields_of_another_form_are_refused(name, foreign):
    for value in WRONG[name]:
        message = refused(foreign(lambda content, value=value: content.update({name: value})))
        assert name in message or "settings" in message, message


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("training", "unknown_key", 1, "training.unknown_key: not a known key"),
        ("reservoir", "nodes", "many", "reservoir.nodes"),
        ("readout", "outputs", 10**9, "has the shape|readout.outputs"),
        ("readout", "outputs", 4096, "has the shape"),
        ("readout", "hidden", 100_000, "has the shape|readout.hidden"),
        ("readout", "kind", "lstm", "which does not fit the settings"),
        ("readout", "kind", "ridge", "which does not fit the settings"),
        ("parallel", "replicas", "ensemble", ""),
        ("reservoir", "nodes", 100_000, "has the shape"),
        ("reservoir", "layers", 90, "has the shape"),
        ("reservoir", "kind", "none", "has the shape"),
        ("reservoir", "matrices", "x.npz", "reservoir.matrices"),
        ("reservoir", "sequence", "channels", "do not fit its samples"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_the_weights_are_refused_before_the_network_is_built(
    section, key, value, words, foreign, monkeypatch
):
    def change(content):
        content["settings"][section][key] = value

    path = foreign(change)
    if words:
        monkeypatch.setattr(trained_model, "make_source", lambda *_: pytest.fail("a reservoir was built"))
        message = refused(path)
        assert any(part in message for part in words.split("|")), message
    else:
        TrainedModel.load(path)  # a single network is no ensemble of many: nothing to object to


def test_a_huge_sample_is_refused_before_memory_is_allocated(foreign, monkeypatch):
    monkeypatch.setattr(trained_model, "make_source", lambda *_: pytest.fail("a reservoir was built"))
    for shape in ([10**9, 8], [8, 10**9], [10**9, 10**9, 3]):
        path = foreign(lambda content, shape=shape: content.update(sample_shape=shape))
        with pytest.raises((DataDamagedError, StageFailedError), match=r"model\.pt: "):
            TrainedModel.load(path)


def test_a_reservoir_that_memory_cannot_hold_is_refused(foreign, monkeypatch):
    monkeypatch.setattr(model_size, "machine_memory", lambda: 10_000)
    message = refused(foreign(lambda content: None), StageFailedError)
    assert "reservoir.nodes = 30" in message
    assert "memory are available" in message


def test_weights_that_are_not_finite_are_refused(foreign):
    def change(content):
        content["weights"][next(iter(content["weights"]))].view(-1)[:2] = math.nan

    assert "2 of the" in refused(foreign(change))


def test_samples_with_infinite_probabilities_are_counted_and_nothing_is_written(foreign, run, tmp_path, capfd):
    def change(content):
        for value in content["weights"].values():
            if value.is_floating_point():
                value.mul_(1e37)

    np.savez(tmp_path / "new.npz", x=np.full((3, 8, 8), 16.0))
    code = main(["predict", str(foreign(change)), str(tmp_path / "new.npz"), "--to", str(tmp_path / "labels.csv")])
    assert code == 2
    assert "for 3 of the samples 0 to 2: 0, 1, 2. Nothing is written" in capfd.readouterr().err
    assert not (tmp_path / "labels.csv").exists()


def test_a_damaged_baseline_ends_the_evaluation(run, capfd):
    file = run / "train/ridge.pt"
    content = file.read_bytes()
    try:
        for damaged in (content[:-100], b"", content + b"\0", content[:200] + b"\xff" + content[201:]):
            file.write_bytes(damaged)
            assert main(["evaluate", "--out", str(run)]) == 3
            assert f"{file}: " in capfd.readouterr().err
    finally:
        file.write_bytes(content)
    assert main(["evaluate", "--out", str(run)]) == 0
    assert "ridge" in json.loads((run / "report/summary.json").read_text())["test"]
