"""Priors, thresholds and costs: from probabilities to the class that is answered."""

from __future__ import annotations

import numpy as np
import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.config.prediction import PredictionSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.answer_rule import AnswerRule

CLASSES = ["a", "b", "c"]
BALANCED = AnswerRule(shares=np.full(3, 1 / 3))
P = np.array([[0.5, 0.3, 0.2], [0.2, 0.45, 0.35], [0.34, 0.33, 0.33]], np.float32)


def stated(**settings) -> AnswerRule:
    return BALANCED.with_settings(PredictionSection(**settings), CLASSES)


def test_priors_are_those_of_bayes():
    """Two classes of normal samples: the posterior for other priors is that of a model trained at these priors."""
    x = np.linspace(-3, 4, 50)
    densities = np.stack([np.exp(-(x**2) / 2), np.exp(-((x - 1) ** 2) / 2)], axis=1)
    trained, used = np.array([0.5, 0.5]), np.array([0.97, 0.03])
    posterior = densities * trained / (densities * trained).sum(1, keepdims=True)
    expected = densities * used / (densities * used).sum(1, keepdims=True)
    rule = AnswerRule(shares=trained).with_settings(PredictionSection(priors=["ill=3", "well=97"]), ["well", "ill"])
    answers = rule.answers(posterior.astype(np.float32))
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(answers.predicted, expected.argmax(1))


def test_thresholds_answer_the_largest_share_of_them():
    assert stated(thresholds=[0.4, 0.3, 0.3]).answers(P).predicted.tolist() == [0, 1, 1]
    assert stated(thresholds=["c=0.05", "b=0.5", "a=0.5"]).answers(P).predicted.tolist() == [2, 2, 2]


def test_a_threshold_above_1_leaves_a_class_out():
    assert stated(thresholds=[1.5, 0.5, 0.5]).answers(P).predicted.tolist() == [1, 1, 1]


def test_two_thresholds_are_those_of_a_binary_decision():
    p = np.array([[0.9, 0.1], [0.79, 0.21]], np.float32)
    rule = AnswerRule(shares=np.full(2, 0.5)).with_settings(PredictionSection(thresholds=[0.8, 0.2]), ["no", "yes"])
    assert rule.answers(p).predicted.tolist() == [0, 1]


def test_costs_answer_the_least_expected_cost():
    costs = np.array([[0, 1, 1], [1, 0, 1], [8, 8, 0]], np.float64)
    expected = (P.astype(np.float64) @ costs).argmin(1)
    assert stated(costs=costs.tolist()).answers(P).predicted.tolist() == expected.tolist()
    assert stated(costs=[[1], [1], [8]]).answers(P).predicted.tolist() == expected.tolist() == [2, 2, 2]


def test_the_rule_of_a_prediction_is_described_with_the_probabilities_of_an_exported_file():
    rule = AnswerRule().with_settings(PredictionSection(thresholds=[0.4, 0.3, 0.3]), CLASSES)
    assert rule.describe() == "probabilities of the model; answers by thresholds"
    described = rule.describe("calibrated_p_at_priors")
    assert described == "calibrated probabilities at the stated priors; answers by thresholds"


def test_without_a_rule_the_model_answers():
    answers = BALANCED.answers(P)
    assert answers.predicted.tolist() == [0, 1, 0]
    assert answers.probabilities is answers.raw


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"priors": [0.5, 0.5]}, r"prediction\.priors has 2 entries, and there are 3 classes: a, b, c"),
        ({"thresholds": ["a=0.5", "b=0.5", "d=0.5"]}, r"prediction\.thresholds: there is no class 'd'"),
        ({"thresholds": ["a=0.5", "b=0.5", "b=0.5"]}, r"a class is named twice"),
        ({"costs": [[0, 1], [1, 0]]}, r"prediction\.costs has 2 rows, and there are 3 classes"),
    ],
)
def test_entries_that_do_not_fit_the_classes_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        stated(**settings)


def test_a_prior_of_a_class_without_rows_is_refused():
    rule = AnswerRule(shares=np.array([0.5, 0.5, 0.0]))
    with pytest.raises(InputError, match=r"class c has no rows in the data"):
        rule.with_settings(PredictionSection(priors=[1, 1, 1]), CLASSES)
    with pytest.raises(InputError, match="does not record the shares"):
        AnswerRule().with_settings(PredictionSection(priors=[1, 1, 1]), CLASSES)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("priors=[0, 0]", "must not all be 0"),
        ("priors=a=1,2", "not both"),
        ("priors=a=b", "expected a number or CLASS=NUMBER"),
        ("priors=-1,2", "at least 0"),
        ("thresholds=1.1,2", "leaves no class that can be answered"),
        ("thresholds=0,0.5", "above 0"),
        ("costs=[[0, 1], [1, 0, 3]]", "every row must have one cost, or as many as there are rows"),
        ("costs=[[0, -1], [1, 0]]", "at least 0"),
        ("costs=[[0, nan], [1, 0]]", "a finite number"),
        ("costs=[[0, 1], [inf, 0]]", "a finite number"),
    ],
)
def test_values_that_mean_nothing_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        load_config("digits", [f"prediction.{setting}"])
