"""Steps of the package's optimisers that run on the device alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import pytest
import torch
from recorded_step import CallRecorder, NoReadBacks, ShapesOnly
from settings import config_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rcdp_hpc.config.choices import OPTIMIZERS
from rcdp_hpc.training.optim.ema import MovingAverage
from rcdp_hpc.training.optim.gradients import add_penalty, clip, shrink
from rcdp_hpc.training.optim.loss_scale import LossScale
from rcdp_hpc.training.optim.optimizers import make_optimizer

# Of the profile cifar10-long.
CIFAR10 = [(64, 24, 3, 3), (64, 64, 3, 3), (256, 64, 3, 3), *[(256, 256, 3, 3)] * 3, (256, 2000), *[(256, 256)] * 2]
CIFAR10 += [(10, 256), *[(64,)] * 4, *[(256,)] * 14, (10,)]
SHAPES = [(4, 3, 2, 2), (3, 40), (40, 3), (5, 5), (7,), (1,)]


class Training:
    """Weights and an optimiser; the gradients of a step follow from its number."""

    def __init__(
        self, name: str, device: str = "cpu", l1: float = 0.0, shapes: Sequence[Sequence[int]] = SHAPES
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weights = [nn.Parameter(torch.randn(shape, generator=generator).to(device)) for shape in shapes]
        self.network = nn.ParameterList(self.weights)
        settings = config_of(optimizer__kind=name, optimizer__weight_decay=0.1, optimizer__learning_rate=0.03)
        self.optimizer = make_optimizer(settings, self.network)
        self.l1 = l1

    def use_tensors(self) -> None:
        device = self.weights[0].device
        for group in self.optimizer.param_groups:
            group["lr"] = torch.full((), group["lr"], device=device)
        self.optimizer.found_inf = torch.zeros((), device=device)

    def step(self, number: int) -> None:
        for place, weights in enumerate(self.weights):
            places = torch.arange(weights.numel(), device=weights.device).view(weights.shape)
            weights.grad = torch.cos(places * (place + 1.0) + number)
        self.update()

    def step_left_out(self) -> None:
        for weights in self.weights:
            weights.grad = torch.full_like(weights, math.nan)
        self.optimizer.found_inf.fill_(1)
        self.update()
        self.optimizer.found_inf.fill_(0)

    def update(self) -> None:
        self.optimizer.step()
        shrink(self.optimizer, self.weights, self.l1)

    def content(self) -> list[torch.Tensor]:
        return [*self.weights, *(value for state in self.optimizer.state.values() for value in state.values())]


@pytest.mark.parametrize("name", OPTIMIZERS.names)
def test_a_step_to_leave_out_changes_neither_weights_nor_state(name):
    plain, halted = Training(name, l1=0.01), Training(name, l1=0.01)
    plain.use_tensors(), halted.use_tensors()
    halted.step_left_out()
    for number in range(3):
        plain.step(number), halted.step(number)
        before = [value.clone() for value in halted.content()]
        halted.step_left_out()
        assert all(map(torch.equal, halted.content(), before))
    assert all(map(torch.equal, halted.content(), plain.content()))


@pytest.mark.parametrize("name", OPTIMIZERS.names)
def test_numbers_and_tensors_as_learning_rate_take_the_same_steps(name):
    by_number, by_tensor = Training(name), Training(name)
    by_tensor.use_tensors()
    for number in range(3):
        by_number.step(number), by_tensor.step(number)
    for one, other in zip(by_number.content(), by_tensor.content(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS.names)
def test_steps_read_nothing_back_and_repeat_from_a_recording(name):
    eager, recorded = Training(name, l1=0.01), Training(name, l1=0.01)
    for training in (eager, recorded):
        training.use_tensors()
        with NoReadBacks():
            training.step(0)
    eager.update(), eager.update()
    repeat = CallRecorder().record(recorded.update)
    repeat(), repeat()
    assert all(map(torch.equal, eager.content(), recorded.content()))
    on_meta = Training(name, "meta", l1=0.01)
    on_meta.use_tensors()
    with ShapesOnly():
        on_meta.step(0)


@pytest.mark.parametrize("name", OPTIMIZERS.names)
def test_checkpoints_have_rates_as_numbers_and_may_have_steps_as_integers(name):
    first, second = Training(name), Training(name)
    first.use_tensors(), second.use_tensors()
    first.step(0)
    state = copy.deepcopy(first.optimizer.state_dict())
    assert [group["lr"] for group in state["param_groups"]] == [pytest.approx(0.03)]
    # Earlier versions counted steps of lamb and muon with integers.
    for values in state["state"].values():
        if "step" in values:
            values["step"] = int(values["step"])
    rate = second.optimizer.param_groups[0]["lr"]
    for one, other in zip(second.weights, first.weights, strict=True):
        one.data.copy_(other.data)
    second.optimizer.load_state_dict(state)
    assert second.optimizer.param_groups[0]["lr"] is rate
    first.step(1), second.step(1)
    assert all(map(torch.equal, first.content(), second.content()))


def test_lamb_on_many_tensors_is_that_of_each_in_float64():
    training = Training("lamb")
    expected = [weights.detach().double() for weights in training.weights]
    first, second = ([torch.zeros_like(values) for values in expected] for _ in range(2))
    for number in range(3):
        training.step(number)
        for place, weights in enumerate(training.weights):
            gradient = weights.grad.double()
            first[place] = 0.9 * first[place] + 0.1 * gradient
            second[place] = 0.999 * second[place] + 0.001 * gradient**2
            mean, square = first[place] / (1 - 0.9 ** (number + 1)), second[place] / (1 - 0.999 ** (number + 1))
            update = mean / (square.sqrt() + 1e-6) + 0.1 * expected[place]
            expected[place] = expected[place] - 0.03 * expected[place].norm() / update.norm() * update
    for weights, values in zip(training.weights, expected, strict=True):
        torch.testing.assert_close(weights.detach().double(), values, rtol=2e-5, atol=1e-6)


def test_an_update_takes_few_calls():
    counted = {}
    for name in ("muon", "adamw"):
        training = Training(name, "meta", shapes=CIFAR10)
        training.use_tensors()
        with ShapesOnly():
            training.step(0)
        with ShapesOnly(), CallCounter() as calls:
            clip(training.weights, 1.0)
            training.optimizer.step()
        counted[name] = calls.total
    assert counted["muon"] <= 60
    assert counted["adamw"] <= 14


class CallCounter(TorchDispatchMode):
    """Counts torch calls that are no views."""

    total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, which takes seconds, to keep it out

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        aliases = [value.alias_info for value in operation._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in aliases)
        self.total += not is_view and operation.namespace != "profiler"
        return operation(*args, **(kwargs or {}))


def test_the_moving_average_stays_while_steps_are_halted():
    layer, halted = nn.BatchNorm1d(37), torch.zeros(())
    average, plain = MovingAverage(layer, 0.7), MovingAverage(layer, 0.7)
    for number in range(3):
        with torch.no_grad():
            layer.weight.add_(0.1 * number)
            layer.running_mean.sub_(0.3)
        layer.num_batches_tracked.add_(1)
        plain.update(layer, 2)
        with NoReadBacks():
            average.update(layer, 2, halted)
            average.update(layer, 2, halted + 1)
        assert all(torch.equal(value, plain.weights[name]) for name, value in average.weights.items())


def test_gradients_are_unscaled_by_a_factor_on_the_device():
    layer, scale = nn.Linear(2, 1), LossScale(enabled=True)
    for inverse in (None, torch.tensor(1 / scale.factor)):
        layer.weight.grad, layer.bias.grad = torch.full((1, 2), 2.0**18), torch.full((1,), 2.0**15)
        scale.unscale(layer, inverse)
        assert layer.weight.grad.tolist() == [[4, 4]]
        assert layer.bias.grad == 0.5


def test_clipping_penalties_and_clips_of_infinite_norms_read_nothing_back():
    layer = nn.Linear(2, 1)
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    with NoReadBacks():
        add_penalty(list(layer.parameters()), 0.0)
        norm = clip(list(layer.parameters()), 1.0)
    assert norm.ndim == 0
    assert norm == 5
    for value in (math.inf, math.nan):
        layer.weight.grad, layer.bias.grad = torch.tensor([[3.0, value]]), torch.tensor([4.0])
        with NoReadBacks():
            norm = clip(list(layer.parameters()), 1.0)
        assert not math.isfinite(norm)
        assert layer.bias.grad == 4
        assert layer.weight.grad[0, 0] == 3
