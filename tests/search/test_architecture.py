"""Searches over the sizes of reservoir and readout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from search.fake_fitness import CheapFitness, FunctionOfValues
from search.group_search import ARCHITECTURE, architecture_config, small_config, small_data
from search.outcome import outcome
from search.ranks import Ranks
from settings import changed

from rcdp_hpc.cluster.estimates import Measured, Resources, Work
from rcdp_hpc.config import Config, largest_candidate, load_config, parse_config, smallest_candidate
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline.resolve import resolve
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir import calibrate
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.checks import checked_space
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.limits import estimated_bytes
from rcdp_hpc.search.records.best import read_best_record
from rcdp_hpc.search.selection import selection_config
from rcdp_hpc.search.space import owner_of, with_values

VALUES = {
    "density": 0.3, "learning_rate": 0.01, "hidden": 6, "nodes": 12, "layers": 2, "states": 2, "readout_layers": 2,
    "readout_activation": "tanh", "outputs": 5, "dropout": 0.2, "batch": 16,
}  # fmt: skip
OTHERS = {
    "density": 0.4, "learning_rate": 0.02, "hidden": 7, "nodes": 13, "layers": 1, "states": 4, "readout_layers": 1,
    "readout_activation": "relu", "outputs": 6, "dropout": 0.0, "batch": 32,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


def bits(evaluation: Evaluation) -> tuple:
    assert evaluation.reason is None
    return evaluation.fitness, evaluation.error, evaluation.accuracy


def configured(values: dict) -> Config:
    """Return the configuration that has a candidate's values as its own settings."""
    settings = {f"{owner_of(name).section}__{owner_of(name).key}": value for name, value in values.items()}
    return changed(architecture_config(), **settings)


def test_a_candidate_is_the_network_with_its_values_as_settings():
    data = small_data()
    candidate = bits(ReservoirFitness(architecture_config(), data)(VALUES))
    assert candidate == bits(ReservoirFitness(configured(VALUES), data)({"density": VALUES["density"]}))


@pytest.mark.parametrize("name", ARCHITECTURE)
def test_a_candidate_depends_on_every_value_and_on_no_earlier_candidate(name):
    fitness = ReservoirFitness(architecture_config(), small_data())
    first, other = bits(fitness(VALUES)), bits(fitness({**VALUES, name: OTHERS[name]}))
    assert other != first
    assert bits(fitness(VALUES)) == first
    assert bits(ReservoirFitness(architecture_config(), small_data())({**VALUES, name: OTHERS[name]})) == other


@pytest.mark.parametrize("changes", [{}, {"layers": 1, "states": 4, "nodes": 30}])
@pytest.mark.parametrize("search", [{"evaluation": "train"}, {"evaluation": "ridge", "space": {}}])
def test_a_group_of_ranks_has_the_bits_of_one(changes, search):
    config, data = architecture_config(**search), small_data()
    values = {**VALUES, **changes}
    alone = bits(ReservoirFitness(config, data)(values))
    assert Ranks(3).run(lambda comm: bits(ReservoirFitness(config, data).set_group(comm)(values))) == [alone] * 3


@pytest.mark.parametrize("nodes", [1, 2, 3])
@pytest.mark.parametrize("evaluation", ["ridge", "train"])
def test_tiny_reservoirs_are_evaluated_or_fail(nodes, evaluation):
    space = {"nodes": {"low": 1, "high": 40}}
    fitness = ReservoirFitness(small_config(space=space, evaluation=evaluation), small_data())
    for density in (0.001, 0.3, 1.0):
        found = fitness({"nodes": nodes, "density": density})
        assert (found.reason is None) == np.isfinite(found.fitness)
        assert found.reason is None or "connection" in found.reason or "radius" in found.reason


SPACE = {**ARCHITECTURE, "activation": {"choices": ["sigmoid", "relu"]}}
STARTS = {**VALUES, "activation": "sigmoid"}


def configured_value(config: Config, name: str) -> object:
    owner = owner_of(name)
    return getattr(getattr(config, owner.section), owner.key)


def test_the_winner_is_trained_with_exactly_its_architecture(tmp_path):
    tree = {
        "run": {"progress": False},
        "data": {"source": "digits", "max_samples": 300},
        "reservoir": {"nodes": 20, "kernel": "dense-fp32", "batch_rows": 64},
        "search": {
            "population": 2, "generations": 1, "evaluation": "train", "epochs": 1, "train_rows": 100,
            "validation_rows": 30, "space": {name: {**bounds, "start": STARTS[name]} for name, bounds in SPACE.items()},
        },
        "training": {"epochs": 1, "baseline": False},
    }  # fmt: skip
    results = run_stages(["prepare", "search", "train"], parse_config(tree, "(of a test)"), tmp_path)
    run = RunDirectory(tmp_path)
    best = read_best_record(run.best_candidate).values
    assert set(best) == set(SPACE)
    assert sum(value != configured_value(run.config(), name) for name, value in best.items()) >= 10
    model = TrainedModel.load(run.model)
    written = load_config(run.trained_config, ["search.generations=0"])
    for name, value in best.items():
        for config in (model.file.config, written):
            found = configured_value(config, name)
            assert (found, type(found)) == (value, type(value)), name
    weights = torch.load(run.model, weights_only=True)["weights"]
    width = best["nodes"] * best["layers"] * best["states"]
    assert weights["output_map.weight"].shape == (best["outputs"], width)
    assert weights["inner.weight"].shape == (best["hidden"], best["outputs"])
    further = [name for name in weights if name.startswith("further.")]
    assert len(further) == best["readout_layers"] - 1
    assert results["train"]["epochs"] == 1
    # The configuration of the run keeps the user's values, from which another search would start.
    assert run.config().reservoir.nodes == 20


def fake_fitness(values: dict) -> Evaluation:
    """Return a fitness that depends on every value and takes no time."""
    number = sum(float(value) if not isinstance(value, str) else len(value) for value in values.values())
    return Evaluation(np.sin(number), 1.0, 0.5)


def fake_search(config: Config, folder: Path) -> tuple:
    run_search(config, SingleProcess(), FunctionOfValues(fake_fitness), folder)
    return outcome(folder)[:2]


@pytest.mark.parametrize(
    ("searched", "other"),
    [
        ("layers", {"readout__layers": 2}),
        ("readout_layers", {"reservoir__layers": 2}),
        ("readout_activation", {"reservoir__activation": "sigmoid"}),
        ("hidden", {"training__batch": 8}),
    ],
)
def test_a_search_does_not_continue_with_another_value_of_a_key_of_similar_name(tmp_path, searched, other):
    config = architecture_config(space={name: ARCHITECTURE[name] for name in ("density", searched)})
    fake_search(changed(config, search__stop_evaluations=3), tmp_path)
    (key,) = other
    with pytest.raises(InputError, match=rf"{key.replace('__', '[.]')} \("):
        fake_search(changed(config, **other), tmp_path)
    # The configured value of a searched key only decides the first candidate, which is evaluated already.
    owner = owner_of(searched)
    same = changed(config, **{f"{owner.section}__{owner.key}": STARTS[searched]})
    assert fake_search(same, tmp_path) == fake_search(config, tmp_path / "straight")


def test_halving_and_repetitions_know_candidates_by_all_values(tmp_path):
    config = architecture_config(halving=2, halving_steps=1, population=4, generations=2)
    run_search(config, SingleProcess(), ReservoirFitness(config, small_data()), tmp_path / "once")
    lines, best, *_ = outcome(tmp_path / "once")
    assert {line.get("share", 1) for line in lines} == {0.5, 1}
    whole = [line for line in lines if line.get("share", 1) == 1]
    assert best["fitness"] == max(line["fitness"] for line in whole)
    alone = ReservoirFitness(config, small_data())(best["values"])
    assert (alone.fitness, alone.error, alone.accuracy) == tuple(best[key] for key in ("fitness", "error", "accuracy"))


def test_the_largest_and_the_smallest_candidate():
    config = architecture_config()
    largest, smallest = largest_candidate(config), smallest_candidate(config)
    assert (largest.reservoir.nodes, largest.reservoir.layers, largest.reservoir.states) == (40, 2, 4)
    assert (smallest.reservoir.nodes, smallest.reservoir.layers, smallest.reservoir.states) == (5, 1, 1)
    assert (largest.readout.hidden, largest.readout.layers, largest.readout.outputs) == (12, 3, 16)
    assert (largest.training.batch, smallest.training.batch) == (32, 16)
    assert type(largest.reservoir.nodes) is int
    off = changed(config, search__generations=0)
    assert largest_candidate(off) is off
    texts = small_config(space={"activation": {"choices": ["tanh", "sigmoid"]}})
    assert largest_candidate(texts) is texts


@pytest.mark.parametrize("name", ["nodes", "layers", "states", "hidden", "readout_layers", "outputs", "batch"])
@pytest.mark.parametrize("kind", ["network", "lstm"])
def test_the_estimated_memory_grows_with_every_size(name, kind):
    config = changed(architecture_config(), readout__kind=kind)
    small, large = (with_values(config, {**VALUES, name: size}) for size in (2, 200))
    assert estimated_bytes(large, (6, 5), 400, 4) > estimated_bytes(small, (6, 5), 400, 4)


def test_a_plan_asks_for_the_memory_of_the_largest_candidate():
    def asked(config: Config, stage: str) -> int:
        measured = Measured(1, 1, 1, 1, 10, 1, dict.fromkeys(("prepare", "search", "train", "evaluate"), 1), "")
        (plan,) = Work(config, measured, (28, 28), 50_000, 10).plans(stage, Resources(1, 1, "1:00:00"))[:1]
        return plan.memory

    plain = small_config(space={"leak": {"low": 0.1, "high": 0.9}})
    large = small_config(space={"nodes": {"low": 50, "high": 4000}})
    assert asked(large, "search") > asked(plain, "search") + 2**28
    assert asked(large, "train") > asked(plain, "train") + 2**28


def test_states_are_refused_with_state_sets_that_ignore_them():
    space = {"states": {"low": 1, "high": 3}, "state_set": {"choices": ["values/spread", "values/long"]}}
    config = small_config(space=space)
    with pytest.raises(InputError, match=r"search\.space\.states has no effect with the state set 'values/spread'"):
        run_search(config, SingleProcess(), CheapFitness(config), None)
    selecting = small_config(space={"states": {"low": 1, "high": 3}}, method="select")
    with pytest.raises(InputError, match=r"search\.space\.states has no effect with the state set"):
        selection_config(selecting, "series")
    assert selection_config(selecting, "images").search.space.states is None


def test_a_readout_of_steps_needs_several_states_of_every_candidate():
    tree = {"readout": {"kind": "lstm"}, "search": {"evaluation": "train", "space": {"states": {"low": 2, "high": 4}}}}
    assert parse_config(tree, "(of a test)").reservoir.states == 1
    tree["search"]["space"]["states"] = {"choices": [1, 4]}
    with pytest.raises(InputError, match=r"'lstm' needs reservoir.reduction = 'all', or search\.space\.states of 2"):
        parse_config(tree, "(of a test)")


@pytest.mark.parametrize(
    ("space", "activation", "message"),
    [
        ({"activation": {"choices": ["tanh", "sigmoid"]}}, "tanh", r"has the choice 'sigmoid'.*'values/spread' has"),
        ({}, "sigmoid", r"reservoir\.activation is 'sigmoid'.*'values/spread' has 'positive'"),
        ({"leak": {"low": 0.01, "high": 1.0}}, "tanh", r"0\.01, below the leak_low of a state set = 0\.02"),
    ],
)
def test_searched_state_sets_are_checked_with_the_other_dimensions(space, activation, message):
    sets = {"state_set": {"choices": ["values/spread", "values/long"]}}
    config = changed(small_config(space={**sets, **space}), reservoir__activation=activation)
    with pytest.raises(InputError, match=message):
        checked_space(config)


def test_kernel_and_batch_rows_are_chosen_for_the_largest_reservoir(tmp_path, monkeypatch):
    chosen = []

    def choose_kernel(nodes, *args, **options):
        chosen.append(nodes)
        return "dense-fp32"

    def choose_batch_rows(nodes, *args, **options):
        chosen.append(nodes)
        return 64

    monkeypatch.setattr(calibrate, "choose_kernel", choose_kernel)
    monkeypatch.setattr(calibrate, "choose_batch_rows", choose_batch_rows)
    tree = {
        "run": {"progress": False},
        "data": {"source": "digits", "max_samples": 200},
        "reservoir": {"nodes": 20, "batch_rows": 0},
        "search": {"generations": 1, "space": {"nodes": {"low": 10, "high": 70}}},
    }
    config = parse_config(tree, "(of a test)")
    run_stages(["prepare"], config, tmp_path)
    resolved = resolve(config, RunDirectory(tmp_path), "search").recorded
    assert chosen == [70, 70]
    assert (resolved.reservoir.nodes, resolved.reservoir.kernel, resolved.reservoir.batch_rows) == (
        20,
        "dense-fp32",
        64,
    )
