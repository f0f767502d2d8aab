"""The settings that a resumed search must share with its checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from search.fake_fitness import CheapFitness, FunctionOfValues, cheap_config
from search.group_search import small_config, small_data
from settings import changed, config_of

from rcdp_hpc.config import Config, Section
from rcdp_hpc.errors import InputError, StoppedError
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.limits import Clock
from rcdp_hpc.search.records import settings
from rcdp_hpc.search.space import with_values
from rcdp_hpc.training.solve.short_training import fit_readout

OTHER_VALUES = {
    "readout__kind": "my_module:Readout",
    "readout__layers": 2,
    "readout__activation": "tanh",
    "readout__heads": 2,
    "readout__kernel_size": 5,
    "readout__outputs": 12,
    "readout__hidden": 11,
    "readout__relu_slope": 0.25,
    "readout__dropout": 0.5,
    "readout__elm_penalty": 3.0,
    "readout__bands": "separate",
    "readout__ridge_penalties": [0.5],
    "readout__ridge_precision": "double",
    "loss__kind": "focal",
    "loss__focal_gamma": 1.0,
    "loss__label_smoothing": 0.1,
    "loss__logit_tau": 2.0,
    "loss__ldam_margin": 1.0,
    "loss__class_weights": "balanced",
    "loss__effective_beta": 0.9,
    "loss__l1": 0.1,
    "loss__l2": 0.1,
    "training__batch": 7,
    "partition__count": 3,
    "optimizer__kind": "sgd",
    "optimizer__momentum": 0.5,
    "optimizer__nesterov": True,
    "optimizer__learning_rate": 0.5,
    "optimizer__clip_norm": 1.0,
    "optimizer__weight_decay": 0.1,
    "training__precision": "bf16",
}

# Keys of the recorded sections that the short training does not read.
UNUSED = {
    "readout__warm_start",
    "readout__ridge_selection",
    "readout__ridge_criterion",
    "readout__keep_sums",
    "readout__without_units",
    "readout__members",
    "readout__member_rows",
    "readout__member_ratio",
    "loss__weights_from_epoch",
    "loss__teacher",
    "loss__teacher_weight",
    "loss__teacher_temperature",
    "optimizer__rate_scaling",
    "optimizer__ema",
}


VALUES = {"density": 0.2, "leak": 0.7, "activation": "tanh"}


class Watched:
    """A configuration that records the dotted keys that are read."""

    def __init__(self, section: Section, seen: set[str], name: str = "") -> None:
        self._section = section
        self._seen = seen
        self._name = name

    def __getattr__(self, name: str) -> object:
        key = f"{self._name}.{name}".lstrip(".")
        value = getattr(self._section, name)
        if isinstance(value, Section):
            return Watched(value, self._seen, key)
        self._seen.add(key)
        return value


def trained(**training: object) -> Config:
    return changed(cheap_config(evaluation="train"), **training)


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


def test_every_recorded_key_has_another_value_here():
    config, names = trained(), set()
    for key in settings.TRAINING_KEYS:
        section, _, name = key.partition(".")
        names |= {f"{section}__{one}" for one in ([name] if name else type(getattr(config, section)).model_fields)}
    assert set(OTHER_VALUES) | UNUSED == names


@pytest.mark.parametrize("key", OTHER_VALUES)
def test_a_search_that_trains_readouts_does_not_continue_with_other_settings(stopped, key):
    with pytest.raises(InputError, match=rf"made with other settings: {key.replace('__', '[.]')} \("):
        run_search(trained(**{key: OTHER_VALUES[key]}), SingleProcess(), CheapFitness(trained()), stopped)


def test_keys_that_a_checkpoint_lacks_count_as_their_defaults(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(settings, "TRAINING_KEYS", ("loss", "training.batch"))
        stop(tmp_path)
    with pytest.raises(InputError, match=r"optimizer\.kind \(adam -> sgd\)"):
        run_search(trained(optimizer__kind="sgd"), SingleProcess(), CheapFitness(trained()), tmp_path)
    run_search(trained(), SingleProcess(), CheapFitness(trained()), tmp_path)


@pytest.mark.parametrize(
    "training",
    [
        {"readout__kind": "network", "readout__dropout": 0.5, "loss__kind": "focal", "loss__class_weights": "balanced"},
        {"readout__kind": "lstm", "optimizer__kind": "sgd"},
        {"readout__kind": "transformer", "optimizer__kind": "muon"},
        {"readout__kind": "convolution", "optimizer__kind": "lamb", "loss__label_smoothing": 0.1},
    ],
)
def test_the_short_training_reads_no_other_key(training):
    config = config_of(readout__outputs=8, readout__hidden=8, training__batch=8, partition__count=2, **training)
    seen: set[str] = set()
    states = torch.rand(16, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(16) % 2
    fit_readout(
        states, FeatureShape(1, 2, 4), labels, states, config=Watched(config, seen), classes=2, epochs=1, seed=1,
        validation_labels=labels,
    )  # fmt: skip
    assert {"readout.kind", "optimizer.kind", "loss.kind"} <= seen
    assert [key for key in seen if not {key, key.partition(".")[0]} & set(settings.TRAINING_KEYS)] == []


@pytest.mark.parametrize("search", [{"validation_rows": 40}, {"validation_rows": 2000}, {"folds": 2}])
@pytest.mark.parametrize("selection", ["auto", "left_out", "validation"])
def test_ridge_reads_no_other_key(search, selection):
    config = changed(small_config(**search), readout__ridge_selection=selection)
    data = small_data()
    if config.search.folds > 1:
        data = replace(data, folds=(data.first(0.5), data.first(0.4)))
    seen: set[str] = set()
    watched = Watched(config, seen)
    fitness = ReservoirFitness(config, data)
    reservoir = fitness.source(with_values(config, VALUES))
    fitness._evaluate(watched, reservoir, Clock(0))
    allowed = {*settings.RIDGE_KEYS, "search", "reservoir", "run", "data"}
    assert "readout.ridge_penalties" in seen
    assert [key for key in seen if not {key, key.partition(".")[0]} & allowed] == []
