"""The step of each profile that trains with gradients: its calls, and that nothing in it waits for the device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded_step import CallRecorder, ShapesOnly

from rcdp_hpc.training import graph
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.recorded_steps import record_steps
from rcdp_hpc.training.states.cache import CachedStates
from rcdp_hpc.training.step import Stepper

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import step_calls

sys.path.remove(str(Path(__file__).parents[2] / "benchmarks"))

# Most calls of a step.
CEILINGS = {"cifar10-long": 300, "mnist-convolution": 260, "mnist": 80}


@pytest.mark.parametrize("profile", CEILINGS)
def test_a_step_has_few_calls(profile):
    counted = step_calls.step_calls(profile)
    assert sum(counted.parts.values()) <= CEILINGS[profile], counted.operations


@pytest.fixture
def fused_on_meta(monkeypatch) -> Iterator[None]:
    """Let torch's fused optimisers accept the meta device, as they do GPUs, and parameters move there in place."""
    optimizers = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


def on_meta(trainer: Trainer) -> Stepper:
    """Return the stepper of a trainer with its network and states on the meta device, which has shapes only."""
    trainer.network.to("meta").train()
    train = CachedStates(trainer.train.states.to("meta"), trainer.train.labels.to("meta"), 0)
    before = trainer.stepper
    return Stepper(
        trainer.config, 0, trainer.network, trainer.optimizer, trainer.objective, train, trainer.parallel, before.mixup
    )


@pytest.mark.usefixtures("fused_on_meta")
@pytest.mark.parametrize(
    ("profile", "settings"),
    [
        *((profile, []) for profile in step_calls.SHAPES),
        ("mnist", ["readout.kind=transformer", "loss.class_weights=balanced"]),
        ("mnist", ["readout.kind=convolution", "readout.dropout=0.2", "loss.kind=focal"]),
        ("mnist-convolution", ["augment.mixup=0.3", "augment.flip=true", "augment.cutout=4", "reservoir.window=2"]),
        ("mnist-convolution", ["reservoir.kind=diagonal", "reservoir.leak=0.3", "reservoir.steps=[0,2,1]"]),
        ("mnist-convolution", ["reservoir.series_scaling=standard", "reservoir.leak_low=0.2", "reservoir.leak=0.9"]),
    ],
)
def test_a_step_reads_no_value(profile, settings):
    # Autocasting has no meta device; the recordings of steps below have products of 16 bits.
    stepper = on_meta(step_calls.trainer_of(profile, 1, ["training.precision=fp32", *settings]))
    stepper.rate_on_device = True
    stepper.begin_epoch(0)

    def run(is_warm_up: bool) -> None:
        with ShapesOnly(constants=is_warm_up):
            stepper.run_eagerly()

    for is_warm_up in (True, False):
        stepper.launch([np.arange(step_calls.ROWS)], 16.0, 0.1, run=partial(run, is_warm_up))


def train_recorded(profile: str, recorder: CallRecorder | None) -> Trainer:
    """Return a trainer after two epochs of three full batches and a shorter one."""
    trainer = step_calls.trainer_of(profile, 4, ["training.epochs=2"], batch=4, rows=3 * 4 + 2)
    trainer.stepper.rate_on_device = True
    if recorder:
        record_steps(trainer.config, trainer.stepper, recorder)
    trainer.run(lambda: None, lambda report: None)
    return trainer


@pytest.mark.parametrize("profile", ["mnist", "mnist-convolution", "cifar10-long", "paper-lstm"])
def test_recorded_steps_give_the_bits_of_steps_as_they_are(profile, monkeypatch):
    monkeypatch.setattr(graph, "WARM_UPS", 1)
    recorder = CallRecorder()
    recorded, plain = train_recorded(profile, recorder), train_recorded(profile, None)
    # Full batches, and the shorter one of the second epoch.
    assert (recorder.warm_ups, recorder.records, recorder.repeats) == (2, 2, 6)
    for one, other in zip(states_of(recorded), states_of(plain), strict=True):
        assert torch.equal(one, other)
    assert recorded.position == plain.position


def states_of(trainer: Trainer) -> list[torch.Tensor]:
    moments = [value for state in trainer.optimizer.state.values() for value in state.values()]
    return [*trainer.network.state_dict().values(), *(value for value in moments if torch.is_tensor(value))]
