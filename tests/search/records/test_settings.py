"""Which settings a search is gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from search.fake_fitness import CheapFitness, FunctionOfValues, cheap_config

from rcdp_hpc.config import Config, TrainingSection
from rcdp_hpc.errors import InputError, StoppedError
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.records import settings
from rcdp_hpc.training.solve.short_training import fit_readout

OTHERWISE = {
    "readout": "my_module:Readout", "readout_layers": 2, "heads": 2, "span": 5, "outputs": 12, "hidden": 11,
    "relu_slope": 0.25, "dropout": 0.5, "loss": "focal", "focal_gamma": 1.0, "label_smoothing": 0.1,
    "class_weights": "balanced", "l1": 0.1, "l2": 0.1, "batch": 7, "slabs": 3, "optimizer": "sgd", "momentum": 0.5,
    "nesterov": True, "learning_rate": 0.5, "clip_norm": 1.0, "weight_decay": 0.1, "precision": "bf16",
}  # fmt: skip


def trained(**training: object) -> Config:
    config = cheap_config(evaluation="train")
    return config.model_copy(update={"training": config.training.model_copy(update=training)})


def stop(folder: Path) -> None:
    fitness = CheapFitness(trained())

    def stopping(values):
        if fitness.calls == 9:
            signals._received.append(10)
        return fitness(values)

    with pytest.raises(StoppedError):
        run_search(trained(), SingleProcess(), FunctionOfValues(stopping), folder)
    signals.clear()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """Return the folder of a search that trains readouts, stopped in its second generation."""
    folder = tmp_path_factory.mktemp("stopped")
    stop(folder)
    return folder


def test_every_key_of_the_readout_has_another_value_here():
    assert set(OTHERWISE) == set(settings.TRAINING_KEYS)


@pytest.mark.parametrize("key", OTHERWISE)
def test_a_search_that_trains_readouts_is_not_gone_on_with_under_other_settings(stopped, key):
    with pytest.raises(InputError, match=rf"made with other settings: training\.{key} \("):
        run_search(trained(**{key: OTHERWISE[key]}), SingleProcess(), CheapFitness(trained()), stopped)


def test_keys_that_a_checkpoint_lacks_count_as_their_defaults(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(settings, "TRAINING_KEYS", ("loss", "batch"))
        stop(tmp_path)
    with pytest.raises(InputError, match=r"training\.optimizer \(adam -> sgd\)"):
        run_search(trained(optimizer="sgd"), SingleProcess(), CheapFitness(trained()), tmp_path)
    run_search(trained(), SingleProcess(), CheapFitness(trained()), tmp_path)


@pytest.mark.parametrize(
    "training",
    [
        {"readout": "network", "dropout": 0.5, "loss": "focal", "class_weights": "balanced"},
        {"readout": "lstm", "optimizer": "sgd"},
        {"readout": "transformer", "optimizer": "muon"},
        {"readout": "convolution", "optimizer": "lamb", "label_smoothing": 0.1},
    ],
)
def test_the_short_training_looks_at_no_other_key(training):
    section, seen = TrainingSection(outputs=8, hidden=8, batch=8, slabs=2, **training), set()

    class Watched:
        def __getattr__(self, name):
            seen.add(name)
            return getattr(section, name)

    states = torch.rand(16, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(16) % 2
    fit_readout(states, FeatureShape(1, 2, 4), labels, states, training=Watched(), classes=2, epochs=1, seed=1)
    assert {"readout", "optimizer", "loss"} <= seen <= set(settings.TRAINING_KEYS)
