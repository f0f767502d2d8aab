"""All folds of a fitness from one pass over the training rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from search.group_search import one_pass_data, small_config
from search.ranks import Ranks

from rcdp_hpc.reservoir.left_out import left_out
from rcdp_hpc.reservoir.ridge import best_by, one_hot, scaled_error, scaling_sums, solve
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.search.evaluation import one_pass
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.fold_evaluator import original_states
from rcdp_hpc.search.evaluation.measured import error_and_accuracy
from rcdp_hpc.search.evaluation.ridge import empty_sums

VALUES = {"density": 0.2, "leak": 0.7, "activation": "tanh"}


def states_of(config, x: np.ndarray):
    return Reservoir(config.reservoir.model_copy(update=VALUES), 5).compute(x)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("kept", [True, False])
def test_each_fold_is_fitted_to_the_rows_that_derive_from_no_held_out_row(kept, balanced, monkeypatch):
    config = small_config(folds=4)
    config.readout.ridge_selection = "validation"
    config.loss.class_weights = "balanced" if balanced else "none"
    data = one_pass_data(config)
    monkeypatch.setattr(one_pass, "FEWEST_ROWS", 0 if kept else 1000)
    states, labels, ends = states_of(config, data.x_train), data.y_train, data.parent_folds
    real = np.flatnonzero(~data.synthetic)
    of_class = len(labels) / (4 * np.bincount(labels)) if balanced else np.ones(4)
    # A synthetic row counts in 2 or 3 of the 4 training parts, an original row in 3.
    weights = np.where(ends[:, 0] == ends[:, 1], 1.0, 1.5) * of_class[labels]
    parts = []
    for fold in range(4):
        rows = np.flatnonzero((ends != fold).all(axis=1))
        sums = empty_sums(states.shape[1], 4, states.device)
        sums.add(states[rows], one_hot(labels[rows], 4), weights[rows])
        parts.append((sums, real[ends[real, 0] == fold]))

    def scores(fold: int, penalty: float) -> np.ndarray:
        return solve(parts[fold][0], penalty).predict(states[parts[fold][1]])

    def error_of(penalty: float) -> float:
        of_first, targets = labels[parts[0][1]], one_hot(labels[parts[0][1]], 4)
        shares = parts[0][0].y / parts[0][0].count
        return scaled_error(*scaling_sums(scores(0, penalty), targets, shares, of_class[of_first]))

    penalty, _ = best_by(error_of, config.readout.ridge_penalties)
    found = np.concatenate([scores(fold, penalty) for fold in range(4)])
    error, accuracy = error_and_accuracy(found, labels[np.concatenate([rows for _, rows in parts])])
    result = ReservoirFitness(config, data)(VALUES)
    assert result.error == pytest.approx(error, rel=1e-5)
    assert result.accuracy == pytest.approx(accuracy, abs=0.008)
    grouped = Ranks(3).run(lambda comm: ReservoirFitness(config, data).set_group(comm)(VALUES).error)
    assert grouped == [result.error] * 3


def test_the_dual_form_has_the_scores_of_sums():
    config = small_config(folds=4)
    config.readout.ridge_selection = "validation"
    # Fewer rows than the 80 features.
    data = one_pass_data(config)
    data = replace(data.first(0.2), parent_folds=data.parent_folds[: math.ceil(0.2 * len(data.y_train))])
    states = states_of(config, data.x_train)
    dual = one_pass.solvable_parts(config, states, original_states(states, data), data)
    assert isinstance(dual, one_pass.UnsummedParts)
    sums = one_pass.training_parts(config, states, data)
    rows = [states[one_pass.original_places(data)[places]] for places in one_pass.places_of_folds(data)]
    for fold in range(4):
        np.testing.assert_allclose(dual.shares(fold), sums[fold].y / sums[fold].count, atol=1e-12)
        # Of the features' scale, which is that of all rows in the dual form, much is in the penalty.
        np.testing.assert_allclose(dual.scores(fold, 1e-3), solve(sums[fold], 1e-3).predict(rows[fold]), atol=0.05)


def test_weights_replace_the_synthetic_rows_where_rows_are_few(monkeypatch):
    config = small_config(folds=4)
    data, driven, drive = one_pass_data(config), [], Reservoir.drive

    def counted(reservoir, x, *arguments, **options):
        driven.append(len(x))
        return drive(reservoir, x, *arguments, **options)

    monkeypatch.setattr(Reservoir, "drive", counted)
    result = ReservoirFitness(config, data)(VALUES)
    originals = data.originals
    assert sum(driven) == len(originals.y)
    states = states_of(config, originals.x)
    counts = np.bincount(data.y_train) / np.bincount(originals.y)
    found = left_out(
        states, originals.y, 4, config.readout.ridge_penalties, counts[originals.y], folds=data.original_folds
    )
    error, accuracy = error_and_accuracy(found.fold_scores, originals.y)
    assert (result.error, result.accuracy) == (pytest.approx(error, rel=1e-6), accuracy)
    grouped = Ranks(3).run(lambda comm: ReservoirFitness(config, data).set_group(comm)(VALUES).error)
    assert grouped == [result.error] * 3


def test_rows_that_are_held_out_have_no_noise(monkeypatch):
    config = small_config(folds=4)
    config.reservoir.noise = 0.05
    data, noisy, drive = one_pass_data(config), {}, Reservoir.drive

    def counted(reservoir, x, *arguments, noisy_rows=noisy, **options):
        noisy_rows[options["noisy"]] = noisy_rows.get(options["noisy"], 0) + len(x)
        return drive(reservoir, x, *arguments, **options)

    monkeypatch.setattr(Reservoir, "drive", counted)
    assert ReservoirFitness(config, data)(VALUES).reason is None
    assert noisy == {True: len(data.y_train), False: len(data.originals.y)}
