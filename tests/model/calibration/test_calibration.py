"""Calibration of made-up scores whose true probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest

from rcdp_hpc.errors import InputError
from rcdp_hpc.model.answer_rule import AnswerRule, read_rule, stored_rule
from rcdp_hpc.model.calibration import choose
from rcdp_hpc.model.calibration.choose import calibrate, folds_of
from rcdp_hpc.model.calibration.scaling import softmax
from rcdp_hpc.model.calibration.scores import HeldOutScores, calibration_error, natural_weights

CLASSES = ["a", "b", "c"]
NATURAL = np.array([0.7, 0.2, 0.1])


def rows(count: int, seed: int, factor: float = 3.0, offsets: np.ndarray | None = None) -> HeldOutScores:
    """Return rows of natural proportions whose scores are the true logits, times a factor, plus offsets."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, count, p=NATURAL)
    x = generator.normal(size=(count, 2)) + np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])[labels]
    means = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
    logits = x @ means.T - (means**2).sum(1) / 2 + np.log(NATURAL)
    scores = factor * logits + (0.0 if offsets is None else offsets)
    return HeldOutScores(scores, softmax(scores), labels.astype(np.int64))


def ece(rule: AnswerRule, held_out: HeldOutScores) -> tuple[float, float, np.ndarray]:
    answers = rule.answers(held_out.raw.astype(np.float32), held_out.scores.astype(np.float32))
    weights = held_out.row_weights
    both = answers.raw.astype(np.float64), answers.probabilities.astype(np.float64)
    measured = [calibration_error(p, held_out.labels, weights) for p in both]
    return measured[0], measured[1], answers.predicted


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic", "auto"])
def test_overconfident_probabilities_become_calibrated_and_answers_stay(method):
    fitted = calibrate(method, rows(4000 if method == "isotonic" else 2500, 1), CLASSES)
    new = rows(10_000, 2)
    before, after, predicted = ece(AnswerRule(fitted), new)
    assert before > 0.05
    assert after <= 0.02
    np.testing.assert_array_equal(predicted, new.raw.argmax(1))
    assert fitted.after["ece"] < fitted.before["ece"]


def test_scores_of_a_solved_readout_become_calibrated():
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 3, 8000)
    z = 1 / 3 + 0.15 * (np.eye(3)[labels] - 1 / 3) + 0.05 * generator.normal(size=(8000, 3))
    held_out = HeldOutScores.of_solved(z, labels, "left-out")
    fitted = calibrate("auto", held_out.part(np.arange(8000) < 3000), CLASSES)
    before, after, predicted = ece(AnswerRule(fitted), held_out.part(np.arange(8000) >= 3000))
    assert before > 0.05 >= 0.02 >= after
    np.testing.assert_array_equal(predicted, z[3000:].argmax(1))


def test_many_classes_are_calibrated_by_temperature_only(monkeypatch):
    offsets = np.array([0.0, 2.0, 4.0])
    assert calibrate("auto", rows(2500, 1, offsets=offsets), CLASSES).method == "vector"
    monkeypatch.setattr(choose, "MOST_AUTO_CLASSES", 2)
    assert calibrate("auto", rows(2500, 1, offsets=offsets), CLASSES).method == "temperature"


def test_offsets_of_classes_correct_scores_of_balanced_rows():
    shifted = -2 * np.log(NATURAL)
    fitted = calibrate("auto", rows(2500, 1, 1.0, shifted), CLASSES)
    before, after, _ = ece(AnswerRule(fitted), rows(10_000, 2, 1.0, shifted))
    assert fitted.method == "vector"
    assert before > 0.05 >= 0.02 >= after


def test_weights_give_left_out_rows_their_natural_shares():
    labels = np.repeat([0, 1, 2], [10, 20, 10])
    weights = natural_weights(labels, np.array([300, 100, 100]))
    shares = np.bincount(labels, weights) / weights.sum()
    np.testing.assert_allclose(shares, [0.6, 0.2, 0.2])
    assert natural_weights(labels, np.array([100, 200, 100])) is None


def test_many_classes_are_thinned_to_what_a_fit_can_read(monkeypatch):
    monkeypatch.setattr(choose, "MOST_NUMBERS", 0)
    monkeypatch.setattr(choose, "LARGEST_FIT", 8 * 3**2)
    held_out = rows(500, 1)
    thinned = choose.thinned(held_out)
    assert thinned.class_rows.tolist() == [8, 8, 8]
    np.testing.assert_allclose(thinned.shares, held_out.shares)


def test_few_rows_leave_the_probabilities_or_are_refused_with_their_number():
    few = rows(49, 1)
    assert calibrate("auto", few, CLASSES) is None
    with pytest.raises(InputError, match=r"49 rows to calibrate by; 'temperature' needs at least 50"):
        calibrate("temperature", few, CLASSES)
    rare = rows(300, 1)
    rare = rare.part((rare.labels != 2) | (np.cumsum(rare.labels == 2) <= 4))
    with pytest.raises(InputError, match=r"4 rows of class c to calibrate by; 'vector' needs at least 5 of each"):
        calibrate("vector", rare, CLASSES)
    assert calibrate("auto", rare, CLASSES).method == "temperature"


def test_calibrated_scores_stay_as_they_are():
    assert calibrate("auto", rows(500, 3, 1.0), CLASSES) is None


def test_many_rows_are_thinned_without_a_change_of_the_shares(monkeypatch):
    monkeypatch.setattr(choose, "MOST_NUMBERS", 900)
    held_out = rows(1000, 3)
    few = choose.thinned(held_out)
    assert few.class_rows.max() == 200
    np.testing.assert_allclose(few.shares, held_out.shares)


def test_folds_hold_a_share_of_each_class():
    labels = np.random.default_rng(0).integers(0, 4, 100)
    folds = folds_of(labels)
    for label in range(4):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("method", ["vector", "isotonic"])
def test_a_rule_is_read_as_it_was_stored(method):
    fitted = calibrate(method, rows(1500, 1), CLASSES)
    rule = AnswerRule(fitted, NATURAL, np.full(3, 1 / 3), np.array([0.5, 2.0, 0.1]), None)
    again = read_rule(stored_rule(rule), 3)
    new = rows(100, 4)
    raw, scores = new.raw.astype(np.float32), new.scores.astype(np.float32)
    one, other = rule.answers(raw, scores), again.answers(raw, scores)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.predicted, other.predicted)
    assert stored_rule(again) == stored_rule(rule)


DAMAGED = {
    "factor": lambda content: content["calibration"]["factors"].__setitem__(0, -1.0),
    "nan": lambda content: content["calibration"]["offsets"].__setitem__(0, float("nan")),
    "number": lambda content: content["calibration"]["factors"].pop(),
    "method": lambda content: content["calibration"].update(method="magic"),
    "rows": lambda content: content["calibration"].update(rows="test"),
    "measure": lambda content: content["calibration"]["before"].pop("ece"),
    "shares": lambda content: content.update(shares=[1.0]),
    "thresholds": lambda content: content.update(thresholds=[2.0, 3.0, 4.0]),
    "costs": lambda content: content.update(costs=[[0.0, 1.0]]),
    "unknown": lambda content: content.update(colour="red"),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_rule_is_refused(damage):
    content = stored_rule(AnswerRule(calibrate("vector", rows(300, 1), CLASSES), NATURAL))
    damage(content)
    with pytest.raises((ValueError, LookupError, TypeError)):
        read_rule(content, 3)
