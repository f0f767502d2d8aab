from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import EVERYTHING, EXTRACTED, GATED, PRUNED, ROWS, STEPWISE, poisoned, run, through_a_file, trainer

from rcdp_hpc.errors import InputError
from rcdp_hpc.parallel.local_sgd import LocalSGD
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.monitor.divergence import DivergedError
from rcdp_hpc.training.report import Position
from rcdp_hpc.training.training_checkpoint import ReplicaState


class SlowToMeet(SingleProcess):
    """One process with a slow allgather."""

    def allgather(self, value):
        time.sleep(0.05)
        return super().allgather(value)


class Halt(Exception):
    pass


@pytest.mark.parametrize(
    "keys",
    [
        {},
        PRUNED,
        GATED,
        EVERYTHING,
        {"optimizer__kind": "sgd", "schedule__kind": "one_cycle", "training__criterion": "log_loss"},
        *STEPWISE,
        EXTRACTED,
        {"partition__reshuffle_every": 1, **EXTRACTED},
    ],
    ids=lambda keys: keys.get("readout", "-".join(keys)[:30]),
)
def test_a_training_halted_within_an_epoch_ends_with_the_same_bits(keys):
    straight = trainer(**keys)
    expected = run(straight)
    halted = trainer(**keys)
    calls = 0

    def pause() -> None:
        nonlocal calls
        calls += 1
        if calls == (14 if straight.repartitioner else 2):
            raise Halt

    halted._steps_between_pauses = lambda: 1
    with pytest.raises(Halt):
        halted.run(pause, lambda report: None)
    assert 0 < halted.position.step < halted.steps
    resumed = trainer(**keys)
    resumed.restore(through_a_file(halted.state()))
    reports = run(resumed)
    assert reports[-1].validation_loss == expected[-1].validation_loss
    assert reports[-1].gradient_norm == expected[-1].gradient_norm
    assert reports[0].gradients == expected[len(expected) - len(reports)].gradients
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    for name, value in straight.best_weights.items():
        assert torch.equal(value, resumed.best_weights[name]), name


def zeros_of(weights: dict[str, torch.Tensor]) -> float:
    matrices = [values for values in weights.values() if values.ndim > 1]
    return 1 - sum(int(values.count_nonzero()) for values in matrices) / sum(values.numel() for values in matrices)


def test_pruning_leaves_the_given_share_of_weights():
    pruned = trainer(**PRUNED)
    reports = run(pruned)
    shares = [report.weights_left for report in reports]
    assert 1 > shares[0] >= shares[1] >= shares[2] == pytest.approx(0.2, abs=1e-2)
    assert zeros_of(pruned.network.state_dict()) >= 0.8 - 1e-2
    # The best model is one of the epochs after the removal.
    assert pruned.position.best_epoch >= 2
    assert zeros_of(pruned.best_weights) >= 0.8 - 1e-2
    assert run(trainer())[-1].weights_left is None


def test_pruning_without_a_schedule_removes_all_weights_at_the_start():
    reports = run(trainer(pruning__keep=0.5, pruning__epochs=0))
    assert [report.weights_left for report in reports] == pytest.approx([0.5] * 4, abs=1e-2)


def test_closed_gates_leave_zeros():
    gated = trainer(**{**GATED, "pruning__l0_penalty": 1000.0})
    before = run(gated)[1].weights_left
    # While the gates are trained, weights are validated with the gates of a prediction.
    assert before < 0.9
    assert zeros_of(gated.best_weights) > 0.1


def test_the_l1_penalty_makes_weights_exactly_zero():
    assert zeros_of(trainer().network.state_dict()) == 0
    shrunk = trainer(loss__l1=0.5, optimizer__learning_rate=0.02)
    run(shrunk)
    assert zeros_of(shrunk.network.state_dict()) > 0.2


def test_replicas_are_resumed_only_by_as_many_ranks():
    one = trainer()
    state = replace(one.state(), replicas=[ReplicaState({}, {})] * 2)
    with pytest.raises(InputError, match=r"has 2 networks.*there are 1 ranks"):
        one.restore(state)


@pytest.mark.parametrize("keys", [EVERYTHING, *STEPWISE, EXTRACTED], ids=lambda keys: keys.get("readout__kind", ""))
def test_measuring_gradients_changes_no_bit(keys):
    plain, watched = (
        trainer(**{**keys, "training__gradient_norms": False}),
        trainer(**{**keys, "training__gradient_norms": True}),
    )
    assert run(plain)[-1].gradients is None
    found = run(watched)[-1].gradients
    assert all(0 < norms["mean"] < 100 for norms in found["layers"].values())
    assert all(0 < norm < 100 for norm in found["steps"])
    for name, value in plain.network.state_dict().items():
        assert torch.equal(value, watched.network.state_dict()[name]), name


def test_the_saved_weights_are_the_moving_average():
    averaged = trainer(optimizer__ema=0.9)
    run(averaged)
    assert averaged.position.best_epoch == 3
    for name, value in averaged.average.weights.items():
        assert torch.equal(averaged.best_weights[name], value)
    assert not torch.equal(averaged.best_weights["scores.weight"], averaged.network.state_dict()["scores.weight"])


def test_a_training_ends_when_validation_has_not_improved_for_patience_epochs():
    one = trainer(training__epochs=50, training__patience=3, optimizer__learning_rate=0.02)
    # What is learned makes these worse.
    one.validation = replace(one.validation, labels=(one.validation.labels + 1) % 3)
    losses = [report.validation_loss for report in run(one)]
    assert one.position.finished == "no better validation loss for 3 epochs"
    assert one.position.best_epoch == len(losses) - 4 == int(np.argmin(losses))


def test_the_best_epoch_is_that_of_the_criterion():
    one = trainer(
        training__epochs=50, training__patience=3, optimizer__learning_rate=0.02, training__criterion="macro_f1"
    )
    one.validation = replace(one.validation, labels=(one.validation.labels + 1) % 3)
    reports = run(one)
    f1 = [report.validation_macro_f1 for report in reports]
    assert [report.validation_fitness for report in reports] == pytest.approx(f1, abs=1e-12)
    losses = [report.validation_loss for report in reports]
    assert one.position.best_epoch == max(range(len(f1)), key=lambda epoch: (round(f1[epoch], 9), -losses[epoch]))
    assert one.position.best_fitness == max(report.fitness for report in reports)
    assert one.position.finished == "no better macro_f1 or validation loss for 3 epochs"
    assert reports[-1].entry()["validation_fitness"] == reports[-1].validation_fitness


def test_epochs_of_equal_fitness_are_compared_by_their_loss():
    position, best = Position(), []
    for epoch, (fitness, loss) in enumerate([(0.5, 1.0), (0.5, 0.8), (0.7, 0.9), (0.6, 0.7), (0.7, 0.95), (0.7, 0.71)]):
        best.append(position.compare(epoch, fitness, loss))
        assert position.improved_epoch == (3 if epoch == 4 else epoch)
    assert best == [True, True, True, False, False, True]
    assert position.compare(6, 0.1, 2.0, restart=True)
    assert (position.least_loss, position.improved_epoch) == (2.0, 6)


def test_a_training_ends_when_the_training_loss_falls_below_its_target():
    one = trainer(training__epochs=50, training__loss_target=0.8, optimizer__learning_rate=0.02)
    losses = [report.train_loss for report in run(one)]
    assert one.position.finished == "training loss below training.loss_target = 0.8"
    assert losses[-1] < 0.8 <= min(losses[:-1])


def test_an_epoch_reports_f1_rates_and_where_its_seconds_went():
    report = run(trainer())[-1]
    assert 0 < report.validation_macro_f1 <= 1
    assert report.gradient_norm_max >= report.gradient_norm > 0
    assert report.samples_per_second == pytest.approx(ROWS / report.cost.seconds)
    parts = report.cost.compute_seconds[0] + report.cost.wait_seconds[0] + report.cost.communicate_seconds[0]
    assert parts == pytest.approx(report.cost.seconds)
    assert report.cost.bytes_sent == [0]
    assert report.cost.memory_mib[0] > 1
    assert report.class_counts == [[30, 30, 30]]


def test_an_infinite_gradient_stops_with_step_rate_and_place():
    one = poisoned()
    with pytest.raises(DivergedError, match=r"at a learning rate of 0\.001; first in the states.*on_nan=skip"):
        run(one)
    assert all(torch.isfinite(value).all() for value in one.state().network.values())


def test_a_skipped_step_lowers_the_rate_and_is_in_no_mean():
    one = poisoned(training__on_nan="skip")
    reports = run(one)
    assert [report.skipped_steps for report in reports] == [1, 1, 1, 1]
    assert [report.learning_rate for report in reports][-1] <= 1e-3 / 2**3
    assert all(np.isfinite(report.train_loss) for report in reports)
    assert sum(reports[0].class_counts[0]) < ROWS


def test_skipping_without_end_stops():
    one = poisoned(training__on_nan="skip", training__batch=90)
    with pytest.raises(DivergedError, match="To do: train again"):
        run(one)


def test_waiting_for_independent_ranks_is_not_counted_as_computing():
    one = trainer(
        comm=SlowToMeet(), parallel=LocalSGD(SingleProcessEngine()), parallel__local_steps=4, training__epochs=1
    )
    (report,) = run(one)
    meetings = -(-one.steps // 4)
    assert report.cost.communicate_seconds[0] + report.cost.wait_seconds[0] > 0.05 * meetings
    assert report.cost.compute_seconds[0] < report.cost.seconds - 0.05 * meetings


def test_an_infinite_validation_loss_stops_with_step_rate_and_place():
    one = trainer(training__epochs=4)
    reports = []

    def report(epoch) -> None:
        reports.append(epoch)
        if epoch.epoch == 1:
            one.validation.states[3] = np.inf

    with pytest.raises(
        DivergedError,
        match=r"epoch 3, after step 12: the training loss is [\d.]+ and the validation loss nan, at a learning rate of "
        r"0\.001; first in the states that the network reads\. .*model.pt has the best weights so far",
    ) as caught:
        one.run(lambda: None, report)
    assert not caught.value.resumable
    assert len(reports) == 2
    assert one.position.best_epoch == 1
    assert all(torch.isfinite(value).all() for value in one.best_weights.values())


def test_a_long_epoch_shows_its_steps_on_the_rank_that_shows_progress(monkeypatch, caplog):
    caplog.set_level("INFO", "rcdp_hpc.runtime.progress")
    now = [0.0]

    def tick() -> float:
        now[0] += 1
        return now[0]

    monkeypatch.setattr("rcdp_hpc.runtime.progress.time.monotonic", tick)
    for shown in (False, True):
        trained = trainer(training__epochs=2)
        trained.show_progress = shown
        trained.position.step = 4  # as of a checkpoint within the epoch
        trained.run(lambda: None, lambda report: None)
        told = [record.getMessage() for record in caplog.records]
        assert bool(told) == shown
    assert told[0] == f"epoch 1 of 2: 9 of {trained.steps} steps, 0.833 per second"
    assert any(line.startswith("epoch 2 of 2: ") for line in told)
