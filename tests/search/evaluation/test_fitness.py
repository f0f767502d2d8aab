"""`ReservoirFitness` on small reservoirs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.left_out import left_out, solve_rows
from rcdp_hpc.reservoir.ridge import one_hot, scaled_error, scaling_sums
from rcdp_hpc.reservoir.spectral_radius import spectral_radius
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.measured import error_and_accuracy
from rcdp_hpc.search.evaluation.rows import FitnessData, fitness_rows


def config_of(**search: object) -> Config:
    tree = {
        "reservoir": {"nodes": 40, "kernel": "dense-fp32", "batch_rows": 64},
        "search": {"density_weight": 3.0, "density_target": 0.1, "epochs": 3, **search},
        "training": {"batch": 32},
        "readout": {"outputs": 16, "hidden": 16},
    }
    return parse_config(tree, "(of a test)")


@pytest.fixture(scope="module")
def data() -> FitnessData:
    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)
    y = digits.target.astype(np.int64)
    for array in (x, y):
        array.flags.writeable = False  # as in memory that ranks share
    return FitnessData(x[:600], y[:600], x[600:900], y[600:900], 10)


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


VALUES = {"density": 0.2, "spectral_radius": 0.8, "input_scaling": 0.5, "leak": 0.7}


def states_of(config: Config, x: np.ndarray) -> torch.Tensor:
    return Reservoir(config.reservoir.model_copy(update=VALUES), 8).compute(x.copy())


def test_few_rows_are_evaluated_by_leave_one_out(data):
    config = config_of()
    few = FitnessData(data.x_train[:200], data.y_train[:200], data.x_val[:80], data.y_val[:80], 10)
    evaluation = ReservoirFitness(config, few)(VALUES)
    states = states_of(config, np.concatenate([few.x_train, few.x_val]))
    labels = np.concatenate([few.y_train, few.y_val])
    expected = left_out(states, labels, 10, config.readout.ridge_penalties)
    assert evaluation.error == pytest.approx(np.mean((expected.scores - one_hot(labels, 10)) ** 2), rel=1e-4)
    assert evaluation.accuracy == pytest.approx(expected.accuracy, abs=0.01)
    assert evaluation.fitness == 1 / evaluation.error
    assert evaluation.accuracy > 0.5
    assert evaluation.seconds > 0


def test_synthetic_rows_have_weight_but_are_not_evaluated(data):
    config = config_of()
    synthetic = (np.arange(200) >= 150) & (data.y_train[:200] == 3)
    few = FitnessData(data.x_train[:200], data.y_train[:200], data.x_val[:80], data.y_val[:80], 10, synthetic=synthetic)
    evaluation = ReservoirFitness(config, few)(VALUES)
    rows = np.concatenate([few.x_train[~synthetic], few.x_val])
    labels = np.concatenate([few.y_train[~synthetic], few.y_val])
    times = (np.bincount(few.y_train) + np.bincount(few.y_val)) / np.bincount(labels)
    expected = left_out(states_of(config, rows), labels, 10, config.readout.ridge_penalties, times[labels])
    assert times[3] > 1
    assert evaluation.error == pytest.approx(np.mean((expected.scores - one_hot(labels, 10)) ** 2), rel=1e-4)
    assert evaluation.accuracy == pytest.approx(expected.accuracy, abs=0.01)


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_with_many_rows_the_validation_rows_choose_the_penalty_and_are_evaluated(data, weights):
    config = config_of()
    config.readout.ridge_selection, config.loss.class_weights = "validation", weights
    evaluation = ReservoirFitness(config, data)(VALUES)
    train, validation = states_of(config, data.x_train), states_of(config, data.x_val)
    counts = np.bincount(data.y_train)
    of_class = 600 / (10 * counts) if weights == "balanced" else np.ones(10)
    by_error = {}
    for penalty in config.readout.ridge_penalties:
        readout = solve_rows(train, data.y_train, 10, penalty, of_class[data.y_train])
        scores = readout.predict(validation)
        error, accuracy = error_and_accuracy(scores, data.y_val)
        shares = of_class * counts / 600
        sums = scaling_sums(scores, one_hot(data.y_val, 10), shares, of_class[data.y_val])
        by_error[scaled_error(*sums)] = error, accuracy
    error, accuracy = by_error[min(by_error)]
    assert evaluation.error == pytest.approx(error, rel=1e-4)
    assert evaluation.accuracy == pytest.approx(accuracy, abs=0.01)


def test_the_penalty_follows_the_size_of_the_states(data):
    """Candidates whose states differ only in size are equally good: the penalty favours none."""
    config, errors = config_of(), []
    config.reservoir = config.reservoir.model_copy(update={"activation": "identity"})
    for scaling in (1e-3, 1.0):
        evaluation = ReservoirFitness(config, data)({**VALUES, "input_scaling": scaling})
        errors.append(evaluation.error)
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


def test_the_same_candidate_gives_the_same_bits(data):
    fitness = ReservoirFitness(config_of(), data)
    first = fitness(VALUES)
    fitness({**VALUES, "leak": 0.2})
    again = fitness(VALUES)
    assert (first.fitness, first.error, first.accuracy) == (again.fitness, again.error, again.accuracy)


def test_the_trained_fitness_depends_on_values_of_the_readout(data):
    fitness = ReservoirFitness(config_of(evaluation="train"), data)
    readout = {"learning_rate": 3e-3, "relu_slope": 0.1, "hidden": 24}
    first, again = fitness({**VALUES, **readout}), fitness({**VALUES, **readout})
    assert first.reason is None
    assert (first.fitness, first.accuracy) == (again.fitness, again.accuracy)
    assert first.accuracy > 0.3
    for change in ({"learning_rate": 1e-5}, {"relu_slope": 0.5}, {"hidden": 12}, {"weight_decay": 0.1}):
        assert fitness({**VALUES, **readout, **change}).error != first.error


def test_a_learning_rate_that_diverges_is_a_failed_candidate(data):
    evaluation = ReservoirFitness(config_of(evaluation="train"), data)({**VALUES, "learning_rate": 1e30})
    assert evaluation.fitness == -np.inf
    assert evaluation.reason == "the readout's loss is nan after epoch 1"


def test_a_reservoir_without_a_cycle_fails_with_its_reason(data):
    evaluation = ReservoirFitness(config_of(), data)({**VALUES, "density": 0.0007})
    assert evaluation.fitness == -np.inf
    assert "cycle" in evaluation.reason


def test_more_states_than_steps_is_an_input_error(data):
    config = config_of()
    config.reservoir.states = 9  # the digits have 8 rows
    with pytest.raises(InputError, match="states"):
        ReservoirFitness(config, data)


def test_with_rows_that_are_not_finite_every_candidate_fails(data):
    spoiled = data.x_train.copy()
    spoiled[3] = np.nan
    broken = FitnessData(spoiled, data.y_train, data.x_val, data.y_val, 10)
    assert "not finite" in ReservoirFitness(config_of(), broken)(VALUES).reason


def test_accuracy_and_error_of_scores_by_hand():
    scores = np.array([[1.0, 0.0], [0.25, 0.75], [0.5, 0.0]], dtype=np.float32)
    error, accuracy = error_and_accuracy(scores, np.array([0, 0, 1]))
    assert error == pytest.approx((0 + 0.75**2 * 2 + 0.25 + 1) / 6)
    assert accuracy == pytest.approx(1 / 3)


def test_a_search_over_reservoirs_improves_and_is_recorded(data, tmp_path):
    space = {"density": {"low": 0.02, "high": 0.5}, "input_scaling": {"low": 0.01, "high": 2.0, "log": True}}
    config = config_of(population=4, generations=3, space=space)
    best = run_search(config, SingleProcess(), ReservoirFitness(config, data), tmp_path, fingerprint=data.fingerprint())
    lines = read_sealed_lines(tmp_path / "history.jsonl")
    first = [line["fitness"] for line in lines if line["generation"] == 1]
    assert best.fitness >= max(first)
    assert len(lines) == 12


class Shards:
    """The part of `ShardReader` that `fitness_rows` uses."""

    classes = ("a", "b")

    def rows(self, split: str) -> int:
        return {"train": 50, "validation": 20}[split]

    def read(self, split: str, start: int, stop: int) -> SimpleNamespace:
        x = np.full((stop - start, 3), len(split), np.float32)
        y = np.arange(start, stop, dtype=np.int32)
        return SimpleNamespace(x=x, y=y, synthetic=y % 7 == 6, length=None)


def test_fitness_rows_are_the_first_and_read_only():
    rows = fitness_rows(Shards(), config_of(train_rows=10, validation_rows=100), SingleProcess())
    assert (rows.x_train.shape, rows.x_val.shape, rows.classes) == ((10, 3), (20, 3), 2)
    assert rows.y_train.tolist() == list(range(10))
    assert rows.y_val.dtype == np.int64
    assert np.flatnonzero(rows.synthetic).tolist() == [6]
    assert rows.originals.y.tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert len(rows.left_out_rows.x) == 29
    with pytest.raises(ValueError, match="read-only"):
        rows.x_train[0] = 1


def test_different_rows_have_different_fingerprints(data):
    other = FitnessData(data.x_train[:-1], data.y_train[:-1], data.x_val, data.y_val, 10)
    assert data.fingerprint() == data.fingerprint() != other.fingerprint()


def test_a_missing_gpu_is_an_input_error(data, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        InputError, match=r"search.device = 'gpu', and torch sees no GPU here: set search.device = 'cpu'"
    ):
        ReservoirFitness(config_of(device="gpu"), data)


def test_states_are_computed_on_the_gpu_of_the_local_rank(data, monkeypatch):
    """Without a GPU the test can only check the requested device."""
    devices = []

    def instead(settings, features, kernel, device, matrices, steps):
        devices.append(device)
        return Reservoir(settings, features, kernel, "cpu", matrices)

    def radius(matrix, device):
        devices.append(device)
        return spectral_radius(matrix)

    monkeypatch.setattr("rcdp_hpc.search.evaluation.source.Reservoir", instead)
    monkeypatch.setattr("rcdp_hpc.reservoir.gelfand.rounded_radius", radius)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "3")
    evaluation = ReservoirFitness(config_of(device="gpu"), data)(VALUES)
    assert devices == ["cuda:1"] * 2
    assert evaluation.error == ReservoirFitness(config_of(), data)(VALUES).error
