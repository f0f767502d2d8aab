"""The solved readout as model, as baseline and as warm start, in whole runs on a small set."""

from __future__ import annotations

import json
import shutil
import weakref

import numpy as np
import pytest
import torch

from rcdp_hpc.config import ReadoutSection, load_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.networks.readouts.ridge import RidgeNetwork
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.ridge import RidgeReadout
from rcdp_hpc.training.solve import kept_solve, ridge_rows

STAGES = ["prepare", "train", "evaluate"]
SMALL = [
    "reservoir.nodes=60", "reservoir.kernel=dense-fp32", "reservoir.batch_rows=128", "search.generations=0",
    "training.epochs=2", "training.threads=1", "run.progress=false",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_a_solved_readout_is_a_model_like_any_other(tmp_path):
    changes = [
        *SMALL,
        "readout.kind=ridge",
        "readout.ridge_penalties=[1e-5, 1e-3]",
        "reservoir.scans=['rows', 'columns']",
    ]
    config = load_config("digits", changes)
    result = run_stages(STAGES, config, tmp_path)
    assert result["train"]["penalty"] in (1e-5, 1e-3)
    assert result["evaluate"]["accuracy"] > 0.9
    assert "ridge" not in result["evaluate"]
    model = TrainedModel.load(tmp_path / "train/model.pt")
    found = model.probabilities(np.random.default_rng(0).random((3, 8, 8), dtype=np.float32), scaled=True)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    before = (tmp_path / "train/model.pt").read_bytes()
    assert run_stages(["train"], config, tmp_path)["train"] == result["train"]
    assert (tmp_path / "train/model.pt").read_bytes() == before
    with pytest.raises(InputError, match=r"reservoir\.leak"):
        run_stages(["train"], load_config("digits", [*changes, "reservoir.leak=0.5"]), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["readout.ridge_selection=validation", "readout.ridge_precision=double"],
        ["readout.keep_sums=true", "data.balance=none"],
    ],
)
def test_torch_solves_the_readout_of_a_run_as_blas_does(tmp_path, monkeypatch, changes):
    config = load_config("digits", [*SMALL, "readout.kind=ridge", "readout.ridge_penalties=[1e-5, 1e-3]", *changes])
    run_stages(["prepare"], config, tmp_path)
    expected = run_stages(["train"], config, tmp_path)["train"]
    weights = TrainedModel.load(tmp_path / "train/model.pt").network.state_dict()
    shutil.rmtree(tmp_path / "train")
    for module in (ridge_rows, kept_solve):
        monkeypatch.setattr(module, "sums_device", lambda device: device)  # as on a GPU
    assert run_stages(["train"], config, tmp_path)["train"] == expected
    for name, found in TrainedModel.load(tmp_path / "train/model.pt").network.state_dict().items():
        np.testing.assert_allclose(found, weights[name], rtol=0, atol=1e-6 * float(weights[name].abs().max()))


def test_states_of_a_solved_readout_are_not_stored(tmp_path, monkeypatch):
    seen, kept, state_blocks = [], [], ridge_rows.state_blocks

    def watched(*arguments, **options):
        for rows, states, labels in state_blocks(*arguments, **options):
            if "train" in arguments:  # those of the validation rows judge one penalty after another
                seen.append(weakref.ref(states))
            kept.append(sum(reference() is not None for reference in seen))
            yield rows, states, labels

    monkeypatch.setattr(ridge_rows, "state_blocks", watched)
    changes = ["readout.kind=ridge", "reservoir.batch_rows=16", "readout.ridge_selection=validation"]
    run_stages(["prepare", "train"], load_config("digits", [*SMALL, *changes]), tmp_path)
    assert len(kept) > 50
    assert max(kept) <= 2


@pytest.mark.parametrize("warm", ["false", "true"])
def test_the_baseline_is_saved_next_to_the_trained_network(tmp_path, warm, caplog):
    config = load_config("digits", [*SMALL, f"readout.warm_start={warm}"])
    with caplog.at_level("INFO"):
        result = run_stages(STAGES, config, tmp_path)["evaluate"]
    summary = json.loads((tmp_path / "report/summary.json").read_text())
    assert summary["test"]["ridge"] == result["ridge"]
    assert result["ridge"]["accuracy"] > 0.85
    assert result["ridge"]["samples"] == result["samples"]
    assert "a readout solved by ridge" in caplog.text


def test_without_baseline_there_is_none(tmp_path):
    result = run_stages(STAGES, load_config("digits", [*SMALL, "training.baseline=false"]), tmp_path)
    assert "ridge" not in result["evaluate"]
    with pytest.raises(InputError, match=r"readout\.warm_start = true needs training\.baseline"):
        load_config("digits", ["training.baseline=false", "readout.warm_start=true"])


def test_a_warm_start_with_too_many_features_is_refused(tmp_path):
    config = load_config("digits", [*SMALL, "readout.warm_start=true", "reservoir.nodes=1500", "reservoir.states=8"])
    with pytest.raises(InputError, match=r"readout\.warm_start .* 12000 features are too many"):
        run_stages(["prepare", "train"], config, tmp_path)


def test_a_penalty_too_small_for_the_rounding_is_left_out_with_a_warning(tmp_path, caplog):
    # 1600 states of 1230 rows: without a penalty there would be no end of solutions.
    changes = ["reservoir.nodes=200", "reservoir.states=8", "readout.kind=ridge"]
    config = load_config(
        "digits", [*SMALL, *changes, "readout.ridge_selection=validation", "readout.ridge_penalties=[1e-12, 1e-3]"]
    )
    result = run_stages(["prepare", "train"], config, tmp_path)
    assert result["train"]["penalty"] == 1e-3
    assert "readout.ridge_penalties of 1e-12 left out, too small" in caplog.text


def test_probabilities_of_a_linear_readout():
    network = RidgeNetwork(ReadoutSection(), FeatureShape(1, 1, 2), 3)
    weights = RidgeReadout(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([0.0, 0.0, -0.5]))
    network.load_state_dict(RidgeNetwork.weights_of(weights))
    found = torch.softmax(network(torch.tensor([[0.75, 0.25]])), 1)
    np.testing.assert_allclose(found.detach().numpy(), [[0.75, 0.25, 0]], atol=1e-5)
