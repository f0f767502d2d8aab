"""Held-out scores of every method equal those of separate solves of its training rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from balance_check.made_check import config_for, rows_of, write_rows

from rcdp_hpc.balance_check.evaluation import Timer, evaluated_by_sums
from rcdp_hpc.balance_check.methods import load_methods
from rcdp_hpc.balance_check.row_space import RowSpace
from rcdp_hpc.balance_check.solutions import best_penalties, sums_scores
from rcdp_hpc.balance_check.state_pass import gathered_states, pass_over_states, slabs, training_sums
from rcdp_hpc.balance_check.state_source import state_source
from rcdp_hpc.reservoir.fold_sums import synthetic_weights
from rcdp_hpc.reservoir.left_out import solve_rows
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import limit_threads

ALONE = SingleProcess()
PENALTIES = [0.001, 0.1]
OWN = [one for one in load_methods() if one.scores_of == one.name]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    config = config_for(write_rows(tmp_path_factory.mktemp("rows") / "rows.npz"))
    rows = rows_of(config)
    source, config = state_source(config, rows, ALONE, torch.device("cpu"), 1)
    with limit_threads(1):
        states = gathered_states(config, rows, source, ALONE)
    return config, rows, source, states


def training_rows(rows, method, fold):
    """Places, labels and weights of a training part, row by row."""
    table = rows.resampled[method.balance].synthetic if method.balance != "none" else None
    times = np.ones(len(rows.labels)) if table is None else rows.resampled[method.balance].multiplicity
    counts = np.bincount(rows.labels[rows.folds != fold], minlength=len(rows.classes))
    by_class = method.class_weights(counts)
    found = [
        (row, label, times[row] * (1 if by_class is None else by_class[label]))
        for row, label in enumerate(rows.labels)
        if rows.folds[row] != fold and times[row]
    ]
    for row in range(0 if table is None else len(table)):
        ends = rows.folds[[table.source[row], table.neighbour[row]]]
        if fold not in ends:
            weight = synthetic_weights(ends[:1], ends[1:], rows.fold_count)[0]
            found.append((len(rows.labels) + row, table.y[row], weight))
    return (np.array(column) for column in zip(*found, strict=True))


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("method", OWN, ids=lambda one: one.name)
def test_scores_from_one_pass_are_those_of_separate_solves(made, method, by_class):
    config, rows, source, states = made
    weightings = {one.name: one.class_weights for one in OWN if one.weighs}
    with limit_threads(1):
        passed = pass_over_states(config, rows, source, by_class, weightings, ALONE)

        def sums_of(fold):
            return training_sums(passed, rows, method.name, method.balance, method.class_weights, fold)

        bounds = slabs(len(rows.labels))
        scores = sums_scores(sums_of, rows.fold_count, PENALTIES, passed.states, rows.folds, bounds, ALONE)
    # Without sums by class, class weights are those of all rows.
    tolerance = 0.05 if method.weighs and not by_class else 2e-5
    for fold in range(rows.fold_count):
        places, labels, weights = training_rows(rows, method, fold)
        readout = solve_rows(states[places], labels, len(rows.classes), PENALTIES[1], weights)
        held_out = rows.folds == fold
        expected = readout.predict(states[: len(rows.labels)][held_out])
        np.testing.assert_allclose(scores[held_out, 1], expected, atol=tolerance)


@pytest.mark.parametrize("method", OWN, ids=lambda one: one.name)
def test_scores_from_products_of_rows_are_those_of_separate_solves(made, method):
    _, rows, _, states = made
    originals = states[: len(rows.labels)].double()
    standard = (states.double() - originals.mean(0)) / originals.std(0, correction=0)
    scores = RowSpace.of(rows, states).scores(method, PENALTIES)
    places, labels, weights = training_rows(rows, method, 0)
    x, y = standard.numpy()[places], np.eye(len(rows.classes))[labels]
    shares = weights / weights.sum()
    centred, targets = x - shares @ x, y - shares @ y
    gram = centred.T @ (weights[:, None] * centred) + PENALTIES[0] * weights.sum() * np.eye(x.shape[1])
    solution = np.linalg.solve(gram, centred.T @ (weights[:, None] * targets))
    held_out = rows.folds == 0
    expected = shares @ y + (standard.numpy()[: len(rows.labels)][held_out] - shares @ x) @ solution
    np.testing.assert_allclose(scores[held_out, 0], expected, atol=2e-5)


def test_rows_of_the_methods_are_balanced_in_every_training_part(made):
    _, rows, _, _ = made
    for method in OWN:
        if method.balance == "none":
            continue
        totals = np.zeros((rows.fold_count, len(rows.classes)))
        for fold in range(rows.fold_count):
            _, labels, weights = training_rows(rows, method, fold)
            totals[fold] = np.bincount(labels, weights, len(rows.classes))
        # Over all folds exactly; in each, copies to a row, and synthetic rows as even as without knowing the folds.
        np.testing.assert_allclose(totals.mean(0) / totals.mean(), 1, atol=1e-9)
        assert (totals.max(1) < (1.6 if method.balance == "smote" else 1.25) * totals.min(1)).all()


def test_a_penalty_is_not_chosen_by_the_rows_that_it_is_evaluated_with(made):
    _, rows, _, _ = made
    generator = np.random.default_rng(0)
    answers = generator.integers(0, 3, (len(rows.labels), 5))

    def worth(labels, predicted):
        return float((labels == predicted).mean())

    before = best_penalties(answers, rows.labels, rows.folds, rows.fold_count, worth)
    changed = answers.copy()
    changed[rows.folds == 2] = generator.integers(0, 3, changed[rows.folds == 2].shape)
    assert best_penalties(changed, rows.labels, rows.folds, rows.fold_count, worth)[2] == before[2]
    unsolved = answers.copy()
    unsolved[0, before[0]] = -1
    assert best_penalties(unsolved, rows.labels, rows.folds, rows.fold_count, worth)[0] != before[0]


def test_every_method_has_scores_of_all_rows(made):
    config, rows, source, _ = made
    with limit_threads(1):
        found = evaluated_by_sums(config, rows, source, ALONE, load_methods(), "macro_f1", Timer()).by_method
    assert list(found) == [one.name for one in OWN]
    assert all(np.isfinite(one.scores).all() and len(one.penalties) == rows.fold_count for one in found.values())
