"""The report at the end of a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from search.fake_fitness import CheapFitness, cheap_config

from rcdp_hpc.config import parse_config
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.search.closing import accuracy_warnings, bound_warnings, closing_lines
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.records.archive import Entry
from rcdp_hpc.search.records.best import Best
from rcdp_hpc.search.space import searched_space

SPACE = {
    "density": {"low": 0.01, "high": 0.5},
    "input_scaling": {"low": 0.01, "high": 10.0, "log": True},
    "leak": {"low": 0.1, "high": 1.0},
    "hidden": {"low": 8, "high": 64},
    "activation": {"choices": ["tanh", "sigmoid"]},
}
INSIDE = {"density": 0.2, "input_scaling": 1.0, "leak": 0.5, "hidden": 20, "activation": "tanh"}


def best_of(**values):
    return Best({**INSIDE, **values}, 25.0, 0.04, 0.975, 2, 3, 17, 1.0)


def section(**search):
    return parse_config({"search": {"evaluation": "train", "space": SPACE, **search}}, "test").search


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({}, []),
        ({"density": 0.4999}, ["density.high = 0.5"]),
        ({"density": 0.49}, []),
        ({"density": 0.0101}, ["density.low = 0.01"]),
        ({"input_scaling": 0.0105}, ["input_scaling.low = 0.01"]),  # 1 % of three decades is 7 %
        ({"input_scaling": 0.011}, []),
        ({"input_scaling": 9.9, "hidden": 64}, ["input_scaling.high = 10", "hidden.high = 64"]),
        ({"hidden": 63}, []),
        ({"leak": 1.0, "activation": "sigmoid"}, []),  # leak accepts no value above 1, and choices have no bounds
        ({"leak": 0.1}, ["leak.low = 0.1"]),
    ],
)
def test_a_winner_on_a_bound_that_can_be_widened_has_a_warning(values, keys):
    warnings = bound_warnings(searched_space(section()), best_of(**values))
    assert len(warnings) == len(keys)
    for warning, key in zip(warnings, keys, strict=True):
        assert f"search.space.{key}" in warning


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (
            {},
            [
                "1/E, E = 0.04 the mean squared error",
                "accuracy on validation rows, with readouts trained for 3 epochs: 97.50 %",
            ],
        ),
        ({"fitness": "accuracy"}, ["fitness: the accuracy on validation rows", "97.50 %"]),
        ({"fitness": "balanced_accuracy"}, ["fitness: balanced_accuracy on validation rows", "mean of the recalls"]),
        ({"fitness": "log_loss"}, ["fitness: minus log_loss on validation rows"]),
        ({"fitness": "recall:a\nb"}, ["fitness: the recall of class a\\nb on validation rows"]),
        ({"density_weight": 2.0}, ["1/E - 2/E_0 (p - 0.1)^2, E_0 = 0.05 (eq. 5)", "here 0.04"]),
        ({"folds": 3}, ["accuracy on 3 inner folds, with readouts trained for 3 epochs: 97.50 %"]),
        (
            {"evaluation": "ridge", "space": {"leak": SPACE["leak"]}},
            ["accuracy on held-out rows, with readouts solved by ridge: 97.50 %"],
        ),
        ({"halving": 2}, ["17 evaluations (4 failed)"]),
        ({"evaluation": "function", "function": "mine:judge"}, ["the value that mine:judge returned"]),
    ],
)
def test_the_meaning_of_the_fitness_fits_a_terminal(search, words):
    best = replace(best_of(), first_error=0.05) if "density_weight" in search else best_of()
    lines = closing_lines(section(**search), best, 4)
    text = "\n".join(lines)
    assert "best fitness 25" in lines[0]
    assert "winner (generation 2): density = 0.2, input_scaling = 1, leak = 0.5" in text
    assert "activation = tanh" in text
    for part in words:
        assert part in text
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("accuracy", "has_warning"), [(0.9949, False), (0.995, True), (float("nan"), False)])
def test_a_winner_less_accurate_than_another_candidate_has_a_warning(accuracy, has_warning):
    space, best = searched_space(cheap_config().search), best_of()
    other = Entry(3, 5, np.full(len(space.dimensions), 0.25), Evaluation(1.0, 0.3, accuracy, 0.0))
    warnings = accuracy_warnings(section(), space, best, other)
    assert len(warnings) == has_warning
    if has_warning:
        assert "accuracy of 97.50 %, and the candidate 5 of generation 3 has 99.50 % (density = 0.25" in warnings[0]
        assert "set search.fitness = 'accuracy'" in warnings[0]
    assert accuracy_warnings(section(evaluation="function", function="a:b"), space, best, other) == []


def test_a_search_ends_with_the_report(tmp_path, caplog):
    caplog.set_level("INFO", "rcdp_hpc")
    config = cheap_config()
    best = run_search(config, SingleProcess(), CheapFitness(config), tmp_path)
    messages = [record.message for record in caplog.records]
    assert any(line.startswith(f"search done: {best.evaluations} candidates (") for line in messages)
