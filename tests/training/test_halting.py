"""Steps that read nothing back, and the return to a step whose gradient is not finite."""

from __future__ import annotations

import logging

import pytest
import torch
from recorded_step import CallRecorder, NoReadBacks
from tiny_training import EVERYTHING, EXTRACTED, GATED, PRUNED, poisoned, run, through_a_file, trainer

from rcdp_hpc.parallel.local_sgd import LocalSGD
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.training import graph
from rcdp_hpc.training.launched_steps import LaunchedSteps
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.monitor.divergence import DivergedError
from rcdp_hpc.training.optim import loss_scale
from rcdp_hpc.training.recorded_steps import record_steps

# Everything that a step masks: moments, moving average, running statistics, penalties, clipping.
MASKED = {
    "optimizer__ema": 0.8,
    "optimizer__clip_norm": 0.5,
    "loss__l1": 1e-3,
    "loss__l2": 1e-2,
    "readout__dropout": 0.2,
    "training__epochs": 2,
}
KINDS = ("adam", "adamw", "sgd", "lamb", "muon")
IMAGES = {**EXTRACTED, "training__epochs": 2}


def outcome(one: Trainer, interval: int = 1000, waits: bool = False) -> list[object]:
    """Train, and return all that a training leaves: weights, average, moments, metrics, position, message."""
    one._steps_between_pauses = lambda: interval
    if waits:
        one.stepper.needs_host = "a test"
    message = ""
    reports: list[object] = []
    try:
        one.run(lambda: None, lambda report: reports.append((report.entry(), report.class_counts)))
    except DivergedError as error:
        message = f"{error} {error.resumable}"
    for entry, _ in reports:
        for name in [name for name in entry if "second" in name or name.startswith(("cpu", "memory"))]:
            del entry[name]
    state = one.state()
    tensors = [*state.network.values(), *state.average.values(), *state.best_weights.values()]
    moments = [value for values in state.optimizer["state"].values() for value in values.values()]
    # A first step without an update may leave moments of 0, or none.
    moments = [value for value in moments if isinstance(value, torch.Tensor) and value.count_nonzero()]
    values = [value.tolist() for value in (*tensors, *moments)]
    return [values, reports, message, state.position, state.partial_sums, state.loss_scale, state.learning_rate]


@pytest.mark.parametrize(
    "keys",
    [
        {"training__on_nan": "stop"},
        *({"training__on_nan": "skip", "optimizer__kind": kind, **MASKED} for kind in KINDS if kind != "adamw"),
        {"training__on_nan": "skip", "training__accumulate": 3, "optimizer__ema": 0.9, "training__epochs": 2},
        {"training__on_nan": "skip", **IMAGES},
        {"training__on_nan": "skip", "training__batch": 90},
        {"training__on_nan": "skip", **PRUNED},
    ],
    ids=lambda keys: "-".join(map(str, keys.values()))[:30],
)
def test_a_step_that_is_not_finite_is_handled_as_if_each_step_was_waited_for(keys, caplog):
    """Weights, moments, averages, statistics, metrics, counts and messages: to the bit, wherever the pauses are."""
    results, logs = [], []
    for interval, waits in ((1000, True), (4, False), (1000, False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            results.append(outcome(poisoned((17, 40), **keys), interval, waits))
        logs.append([record.getMessage() for record in caplog.records])
    assert all(result == results[0] for result in results)
    assert all(told == logs[0] for told in logs)
    if keys["training__on_nan"] == "skip" and "training__batch" not in keys:
        assert all(entry["skipped_steps"] for entry, _ in results[0][1])


def test_a_loss_scale_grows_and_falls_at_the_same_steps(monkeypatch):
    """In float16, with a scale that often becomes too large, and a batch whose gradient is not finite at any scale."""
    monkeypatch.setattr(loss_scale, "GROWTH_STEPS", 1)
    keys = {"training__precision": "fp16", "training__on_nan": "skip", "training__epochs": 3, "optimizer__ema": 0.9}
    keys["training__gradient_norms"] = True
    results, factors = [], []
    for interval, waits in ((1000, True), (1, False), (1000, False)):
        one = poisoned(**keys)
        lower, lowered = one.stepper.scale.lower, []
        one.stepper.scale.lower = lambda lower=lower, lowered=lowered, one=one: (
            lowered.append((one.position.epoch, one.position.step, one.stepper.scale.factor)) or lower()
        )
        results.append(outcome(one, interval, waits))
        factors.append(lowered)
    assert all(result == results[0] for result in results)
    assert all(lowered == factors[0] for lowered in factors)
    assert len({(epoch, step) for epoch, step, _ in factors[0]}) > 3
    assert {factor for _, _, factor in factors[0]} >= {1.0, loss_scale.FIRST_FACTOR}


@pytest.mark.parametrize("keys", [{"optimizer__kind": "muon", **MASKED}, IMAGES, PRUNED])
def test_recorded_steps_return_to_a_step_that_is_not_finite(keys, monkeypatch):
    monkeypatch.setattr(graph, "WARM_UPS", 1)
    results = []
    for recorder in (None, CallRecorder()):
        one = poisoned((17, 40), **{"training__on_nan": "skip", "training__gradient_norms": True, **keys})
        one.stepper.rate_on_device = True
        if recorder:
            record_steps(one.config, one.stepper, recorder)
        results.append(outcome(one))
    assert recorder.repeats > one.steps
    assert results[0] == results[1]
    assert any(entry["skipped_steps"] for entry, _ in results[0][1])


@pytest.mark.parametrize(
    "keys",
    [
        *({"optimizer__kind": kind, **MASKED} for kind in KINDS),
        {**EVERYTHING, "optimizer__kind": "adamw"},
        {**IMAGES, "optimizer__kind": "muon"},
        {"partition__reshuffle_every": 1, **IMAGES},
        {"training__precision": "fp16", "training__epochs": 1},
        {"readout__kind": "lstm", "readout__outputs": 4, "training__epochs": 1},
        {"training__weight_bits": 8, "training__epochs": 1},
        PRUNED,
    ],
    ids=lambda keys: "-".join(map(str, keys.values()))[:30],
)
def test_steps_read_nothing_back(keys):
    one = trainer(**keys)
    assert not one.stepper.needs_host
    launch, addresses = one.stepper.launch, set()

    def watched(*arguments) -> None:
        with NoReadBacks():
            launch(*arguments)
        addresses.add((one.stepper.inputs.rows(0).data_ptr(), one.stepper.inputs.seed.data_ptr()))

    one.stepper.launch = watched
    run(one)
    assert len(addresses) == 1


def test_ranks_that_step_independently_name_their_first_fault():
    keys = {"parallel__local_steps": 4, "optimizer__ema": 0.9}
    messages = []
    for waits in (True, False):
        one = poisoned((17, 40), parallel=LocalSGD(SingleProcessEngine()), **keys)
        *_, result, position, _, _, _ = outcome(one, waits=waits)
        messages.append((result, position.step))
    assert messages[0] == messages[1]
    assert "rank 0: epoch 1, step " in messages[0][0]


def test_a_training_resumed_after_a_skipped_step_ends_with_the_same_bits():
    keys = {"training__on_nan": "skip", "training__epochs": 2, "optimizer__ema": 0.9, "training__accumulate": 2}
    expected = outcome(poisoned(**keys))
    saved = []
    one = poisoned(**keys)
    one._steps_between_pauses = lambda: 2
    one.run(lambda: saved.append(through_a_file(one.state())), lambda report: None)
    within = [state for state in saved if state.position.step and state.position.skipped_steps]
    assert within
    for state in (within[0], within[-1]):
        resumed = poisoned(**keys)
        resumed.restore(state)
        found = outcome(resumed, 3)
        assert found[0] == expected[0]
        assert found[1][-1] == expected[1][-1]


def test_what_needs_the_host_is_waited_for():
    class Own(torch.optim.SGD):
        """An optimiser that knows nothing of `found_inf`."""

    assert "pruning.method" in trainer(**GATED).stepper.needs_host
    one = poisoned(training__on_nan="skip")
    optimizer = Own(one.network.parameters(), lr=0.1)
    stepper = one.stepper
    stepper.optimizer = one.optimizer = optimizer
    assert "found_inf" in stepper._needs_host()
    stepper.needs_host = stepper._needs_host()
    reports = run(one)
    assert [report.skipped_steps for report in reports] == [1] * 4
    assert all(torch.isfinite(value).all() for value in one.network.state_dict().values())


def test_steps_are_timed_from_pause_to_pause(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rcdp_hpc.training.launched_steps.time.perf_counter", lambda: now[0])
    launched = LaunchedSteps()
    launched.begin(0)
    for _ in range(4):
        launched.add(None)
    now[0] = 2.0
    assert launched.read(0) == ([None] * 4, None)
    now[0] = 60.0  # in the pause
    launched.begin(4)
    launched.add(None)
    now[0] = 60.5
    launched.read(0)
    assert launched.step_seconds == 0.5
    assert launched.since_pause(7) == 3
