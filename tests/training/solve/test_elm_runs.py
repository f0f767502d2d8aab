"""Deep extreme learning machines in whole runs: accuracy, search, stop and start again, prediction, bad settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rcdp_hpc.config import Config, load_config
from rcdp_hpc.data.shards.reader import open_shards
from rcdp_hpc.errors import DataDamagedError, InputError, StoppedError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.solve import elm_solver

STAGES = ["prepare", "train", "evaluate"]
# docs/networks-reference.md names these settings and the accuracy.
DIGITS = [
    "readout.kind=elm", "readout.hidden=500", "readout.layers=2", "readout.activation=tanh", "reservoir.kind=none",
    "reservoir.sequence=rows", "search.generations=0", "data.class_keep_fractions=[]",
    "training.threads=1", "run.progress=false",
]  # fmt: skip
SMALL = [*DIGITS, "readout.hidden=30"]
WAVELETS = ["extractor.kind=wavelet_packets", "extractor.wavelet=haar", "extractor.levels=2"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def digits(*settings: str, base: list[str] = SMALL) -> Config:
    return load_config("digits", [*base, *settings])


def weights(out: Path) -> dict[str, bytes]:
    state = torch.load(out / "train/model.pt", weights_only=True)["weights"]
    return {name: value.numpy().tobytes() for name, value in state.items()}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_digits_are_recognised_from_their_pixels(tmp_path, seed):
    result = run_stages(STAGES, digits(f"run.seed={seed}", base=DIGITS), tmp_path)
    assert result["evaluate"]["accuracy"] >= 0.95
    assert result["train"]["validation_accuracy"] >= 0.95


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["reservoir.kind=random", "reservoir.nodes=40", "readout.ridge_selection=validation"],
        ["augment.shifts=1", "loss.class_weights=balanced", "loss.label_smoothing=0.1"],
        [*WAVELETS, "readout.bands=separate"],
    ],
)
def test_a_reloaded_model_predicts_what_was_evaluated(tmp_path, settings):
    result = run_stages(STAGES, digits(*settings), tmp_path)
    shards = open_shards(digits(), RunDirectory(tmp_path).shards)
    test = shards.read("test", 0, shards.rows("test"))
    model = TrainedModel.load(tmp_path / "train/model.pt")
    probabilities = model.probabilities(test.x, scaled=True)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    accuracy = np.mean(probabilities.argmax(1) == test.y)
    assert accuracy == result["evaluate"]["accuracy"] > 0.75
    if "readout.bands=separate" in settings:
        assert len(result["train"]["penalties"]) == 4
    else:
        assert result["train"]["penalty"] > 0


def test_states_that_do_not_fit_in_memory_give_the_same_bits(tmp_path, monkeypatch):
    config = digits("readout.ridge_selection=validation")
    run_stages(["prepare", "train"], config, tmp_path / "stored")
    monkeypatch.setattr("rcdp_hpc.training.solve.solve_stage.room_for_states", lambda *_: 0)
    run_stages(["prepare", "train"], config, tmp_path / "computed")
    assert weights(tmp_path / "computed") == weights(tmp_path / "stored")


def test_a_stopped_solution_is_continued_and_a_finished_one_is_not_solved_again(tmp_path, monkeypatch):
    config, drawn = digits("readout.layers=3"), []
    run_stages(["prepare", "train"], config, tmp_path / "whole")
    random_layer = elm_solver.random_layer

    def stopping(*arguments):
        drawn.append(arguments)
        if len(drawn) == 2:
            signals._received.append(10)
        return random_layer(*arguments)

    monkeypatch.setattr(elm_solver, "random_layer", stopping)
    with pytest.raises(StoppedError):
        run_stages(["prepare", "train"], config, tmp_path / "stopped")
    signals.clear()
    assert (tmp_path / "stopped/train/layers.pt").exists()
    drawn.append(None)
    run_stages(["prepare", "train"], config, tmp_path / "stopped")
    # Two layers were left.
    assert len(drawn) == 5
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    assert not list((tmp_path / "stopped/train").glob("layers.pt*"))
    run_stages(["train"], config, tmp_path / "stopped")
    assert len(drawn) == 5
    with pytest.raises(InputError, match=r"readout\.elm_penalty"):
        run_stages(["train"], digits("readout.layers=3", "readout.elm_penalty=2"), tmp_path / "stopped")


def test_a_readout_of_another_kind_is_not_put_in_place_of_one(tmp_path):
    # Otherwise the model of one kind would be taken for that of another one whose record is still there.
    kinds = {"elm": "elm.json", "ridge": "ridge.json", "network": "last.pt"}
    for kind, file in kinds.items():
        run_stages(["prepare", "train"], digits("training.epochs=1", f"readout.kind={kind}"), tmp_path / kind)
        before = weights(tmp_path / kind)
        for other in kinds.keys() - {kind}:
            with pytest.raises(InputError, match=rf"{file} was made with other settings: .*readout\.kind \({kind} -> "):
                run_stages(["train"], digits("training.epochs=1", f"readout.kind={other}"), tmp_path / kind)
        assert weights(tmp_path / kind) == before


def test_the_search_solves_its_candidates_and_the_training_takes_the_winner(tmp_path):
    ranges = {
        "hidden": "low = 8, high = 40", "readout_layers": "low = 1, high = 3",
        "elm_penalty": "low = 0.1, high = 1e3, log = true", "readout_activation": "choices = ['tanh', 'relu']",
    }  # fmt: skip
    space = [f"search.space.{name}={{{bounds}}}" for name, bounds in ranges.items()]
    search = ["search.generations=2", "search.population=3", "search.evaluation=train", *space]
    result = run_stages(["prepare", "search", "train"], digits(*search), tmp_path)
    chosen = result["search"]["values"]
    state = torch.load(tmp_path / "train/model.pt", weights_only=True)["weights"]
    layers = [value for name, value in state.items() if ".layers." in name]
    assert len(layers) == chosen["readout_layers"]
    assert {len(value) for value in layers} == {chosen["hidden"]}
    history = [json.loads(line) for line in (tmp_path / "search/history.jsonl").read_text().splitlines()]
    assert max(line["accuracy"] for line in history) > 0.8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["readout.elm_penalty=0"], r"readout\.elm_penalty.*greater than or equal to 0\.0+1"),
        (["readout.elm_penalty=1e13"], r"readout\.elm_penalty.*less than or equal to"),
        (["readout.elm_penalty=nan"], r"readout\.elm_penalty.*finite"),
        (["readout.elm_penalty=inf"], r"readout\.elm_penalty.*finite"),
        (["readout.hidden=0"], r"readout\.hidden.*greater than or equal to 1"),
        (["readout.layers=0"], r"readout\.layers.*greater than or equal to 1"),
        (["readout.layers=101"], r"readout\.layers.*less than or equal to 100"),
        (["readout.activation=softly"], r"readout\.activation.*tanh"),
        (["readout.bands=three"], r"readout\.bands.*joined"),
        (["loss.kind=focal"], r"loss\.kind = 'focal' needs another readout\.kind than 'ridge' or 'elm'"),
        (["readout.warm_start=true"], r"readout\.warm_start = true needs readout\.kind = 'network'"),
        (["extractor.kind=convolution"], r"extractor\.kind = 'convolution' needs another readout\.kind"),
        ([*WAVELETS, "readout.bands=separate", "reservoir.kind=random"], r"needs reservoir\.kind = 'none'"),
    ],
)
def test_bad_settings_are_refused_when_the_configuration_is_loaded(settings, message):
    with pytest.raises(InputError, match=message):
        digits(*settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["readout.bands=separate"], r"readout\.bands = 'separate' reads frequency bands"),
        (["readout.hidden=3000000"], r"readout\.hidden = 3000000 units over 64 features need about"),
    ],
)
def test_what_the_data_do_not_allow_is_refused_before_the_preparation(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        run_stages(["prepare", "train"], digits(*settings), tmp_path)
    assert not (tmp_path / "shards/index.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["weights"]["machines.0.scores.bias"].fill_(torch.nan), "NaN or infinite"),
        (lambda content: content["weights"].pop("machines.0.layers.1.weight"), "does not fit the settings"),
        (
            lambda content: content.update(settings=content["settings"].replace('"hidden": 30', '"hidden": 9000000')),
            "the settings need",
        ),
    ],
)
def test_a_model_that_was_altered_is_refused(tmp_path, change, message):
    run_stages(["prepare", "train"], digits(), tmp_path)
    path = tmp_path / "train/model.pt"
    content = checkpoint.load(path)
    change(content)
    checkpoint.save(path, {name: value for name, value in content.items() if name != "format"})
    with pytest.raises(DataDamagedError, match=message):
        TrainedModel.load(path)
