from __future__ import annotations

import math

import pytest
from settings import config_of

from rcdp_hpc.config import parse_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.training.optim.learning_rate import LearningRate


def rates(steps: int = 10, ranks: float = 1, **keys) -> list[float]:
    settings = config_of(optimizer__learning_rate=0.5, **keys)
    schedule = LearningRate(settings, steps, ranks)
    return [schedule.at(epoch, step) for epoch in range(settings.training.epochs) for step in range(steps)]


@pytest.mark.parametrize("kind", ["constant", "step", "cosine", "plateau"])
def test_the_warm_up_is_a_straight_line_to_the_peak(kind):
    expected = [0.5 * (t + 1) / 5 for t in range(5)]
    assert rates(schedule__kind=kind, training__epochs=3, schedule__warmup_steps=5)[:5] == pytest.approx(expected)
    assert rates(schedule__kind=kind, training__epochs=3, schedule__warmup_epochs=0.5)[:6] == pytest.approx(
        [*expected, 0.5]
    )


def test_cosine_falls_from_the_peak_to_zero():
    curve = rates(schedule__kind="cosine", training__epochs=2)
    assert curve == pytest.approx([0.25 * (1 + math.cos(math.pi * t / 20)) for t in range(20)])
    assert rates(schedule__kind="cosine", training__epochs=2, schedule__warmup_steps=10)[15] == pytest.approx(0.25)


def test_step_falls_every_interval_epochs():
    curve = rates(schedule__kind="step", training__epochs=5, steps=1, schedule__interval=2, schedule__factor=0.2)
    assert curve == pytest.approx([0.5, 0.5, 0.1, 0.1, 0.02])


@pytest.mark.parametrize(("keys", "rise"), [({}, 6), ({"schedule__warmup_steps": 12}, 12)])
def test_one_cycle_rises_and_falls_once(keys, rise):
    curve = rates(schedule__kind="one_cycle", training__epochs=2, **keys)
    assert curve[0] == pytest.approx(0.5 / 25)
    assert curve[rise] == pytest.approx(0.5)
    assert curve.index(max(curve)) == rise
    assert curve[:rise] == sorted(curve[:rise])
    assert curve[rise:] == sorted(curve[rise:], reverse=True)
    assert curve[-1] < 0.02


def test_plateau_falls_after_epochs_without_gain_and_resumes_from_its_state():
    settings = config_of(
        optimizer__learning_rate=0.5,
        schedule__kind="plateau",
        schedule__interval=2,
        schedule__factor=0.5,
        schedule__warmup_epochs=1,
    )
    schedule = LearningRate(settings, 10, 1)
    seen = []
    # The first epoch is warm-up and does not count; a gain of less than 1e-4 is none.
    for epoch, loss in enumerate([0.1, 1.0, 0.9, 0.89999, 0.95, 0.8, 0.85, 0.85, 0.85]):
        schedule.close_epoch(epoch, loss)
        seen.append(schedule.at(epoch + 1, 0))
        state, schedule = schedule.state(), LearningRate(settings, 10, 1)
        schedule.restore(state)
    assert seen == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125])


@pytest.mark.parametrize(("rule", "factor"), [("none", 1), ("sqrt", 2), ("linear", 4)])
def test_the_rate_is_scaled_with_ranks(rule, factor):
    assert rates(optimizer__rate_scaling=rule, ranks=4, training__epochs=1) == pytest.approx([0.5 * factor] * 10)


def test_a_warm_up_as_long_as_the_training_is_refused():
    with pytest.raises(InputError, match="takes 20 steps and the training 20"):
        rates(training__epochs=2, schedule__warmup_epochs=2)


def test_a_warm_up_in_epochs_and_in_steps_is_refused():
    with pytest.raises(InputError, match=r"schedule\.warmup_epochs = 1\.0 needs schedule\.warmup_steps = 0"):
        parse_config({"schedule": {"warmup_epochs": 1, "warmup_steps": 5}}, where="here")
