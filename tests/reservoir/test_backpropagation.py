"""States of all steps in few operations, and their gradients, against automatic differentiation."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.activations.sigmoid import Sigmoid
from rcdp_hpc.reservoir.activations.tanh import Tanh
from rcdp_hpc.reservoir.backpropagation import FUNCTIONS, StateSequence
from rcdp_hpc.reservoir.frozen_casts import FrozenCasts
from rcdp_hpc.reservoir.gradient import DifferentiableReservoir
from rcdp_hpc.reservoir.states import Reservoir

STEPS, ROWS, NODES = 4, 3, 5
LEAKS = {"one": 1.0, "half": 0.5, "rates": torch.linspace(0.2, 1.0, NODES, dtype=torch.float64)}


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def step_by_step(driven, bias, recurrent, leak, function):
    state, states = torch.zeros_like(driven[0]), []
    for v in driven:
        state = (1 - leak) * state + leak * function(state @ recurrent.T + v + bias)
        states.append(state)
    return torch.stack(states)


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("kind", FUNCTIONS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("steps", [STEPS, 1])
def test_states_and_gradients_are_those_of_automatic_differentiation(kind, leak, steps):
    driven = numbers(steps, ROWS, NODES).requires_grad_()
    constants = (numbers(NODES, seed=1), numbers(NODES, NODES, seed=2) / 2, LEAKS[leak])
    states = StateSequence.apply(driven, *constants, FUNCTIONS[kind])
    slopes = numbers(*states.shape, seed=3)
    (gradient,) = torch.autograd.grad(states, driven, slopes)
    expected = step_by_step(driven, *constants, kind())
    torch.testing.assert_close(states, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, driven, slopes)[0], atol=1e-12, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda v: StateSequence.apply(v, *constants, FUNCTIONS[kind]), driven)


@pytest.mark.parametrize("leak", [1.0, 0.5])
@pytest.mark.parametrize("kind", FUNCTIONS, ids=lambda kind: kind.__name__)
def test_products_in_16_bits_change_little(kind, leak):
    driven = (numbers(STEPS, ROWS, NODES) / 2).float().requires_grad_()
    bias, recurrent = numbers(NODES, seed=1).float(), (numbers(NODES, NODES, seed=2) / 5).float()
    exact = StateSequence.apply(driven, bias, recurrent, leak, FUNCTIONS[kind])
    halved = StateSequence.apply(driven.bfloat16(), bias, recurrent.bfloat16(), leak, FUNCTIONS[kind])
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, exact, atol=0.03, rtol=0.03)
    slopes = numbers(*exact.shape, seed=3).float()
    found = torch.autograd.grad(halved, driven, slopes)[0]
    torch.testing.assert_close(found, torch.autograd.grad(exact, driven, slopes)[0], atol=0.05, rtol=0.05)


class Outputs(TorchDispatchMode):
    """Refuses operations that write numbers of 16 bits from float32 ones, which GPUs would round before."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, which takes seconds, to keep it out

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = (kwargs or {}).get("grad_input")
        assert out is None or all(value.dtype == out.dtype for value in args if isinstance(value, torch.Tensor))
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [Tanh, Sigmoid])
def test_derivatives_are_computed_in_the_number_format_of_the_states(kind):
    driven = numbers(STEPS, ROWS, NODES).bfloat16().requires_grad_()
    constants = (numbers(NODES, seed=1).float(), numbers(NODES, NODES, seed=2).bfloat16())
    states = StateSequence.apply(driven, *constants, 1.0, FUNCTIONS[kind])
    with Outputs():
        states.sum().backward()


def cubed(x):
    return x - 0.1 * x**3


@pytest.mark.parametrize("settings", [{}, {"window": 3}, {"layers": 2, "leak": 0.4, "scans": ["forward", "backward"]}])
@pytest.mark.parametrize("activation", ["tanh", f"{__name__}:cubed"])
def test_the_gradient_path_has_the_states_of_the_reservoir(settings, activation):
    section = ReservoirSection(nodes=12, activation=activation, reduction=["mean"], input_scaling=0.3, **settings)
    reservoir = Reservoir(section, 3, "dense-fp32", torch.device("cpu"), steps=6)
    u = numbers(ROWS, 6, 3).float()
    torch.testing.assert_close(DifferentiableReservoir(reservoir)(u), reservoir.states(u.numpy()), atol=1e-5, rtol=1e-5)


def test_a_copy_in_16_bits_follows_its_tensor():
    casts, values = FrozenCasts(), torch.ones(2)
    copy = casts.of("w", values, torch.bfloat16)
    assert casts.of("w", values, torch.bfloat16) is copy
    values.fill_(2)
    assert torch.equal(casts.of("w", values, torch.bfloat16), values.bfloat16())
    other = torch.zeros(2)
    assert torch.equal(casts.of("w", other, torch.float16), other.half())
    assert casts.of("w", other, torch.float32) is other
