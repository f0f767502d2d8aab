"""A reservoir of kind "diagonal": equations, gradients, kernels, and refused settings."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import leak_rates
from rcdp_hpc.reservoir.diagonal import diagonal_matrices
from rcdp_hpc.reservoir.gradient import DifferentiableReservoir
from rcdp_hpc.reservoir.states import Reservoir

STEPS, FEATURES = 9, 2


def section(**changes):
    defaults = {"kind": "diagonal", "nodes": 30, "memory_units": 5, "memory_steps": [2.0, 20.0], "bias_scaling": 0.4}
    return ReservoirSection(**{**defaults, **changes})


def samples(rows=4, steps=STEPS):
    return np.random.default_rng(0).normal(size=(rows, steps, FEATURES)).astype(np.float32)


def by_complex_numbers(settings, u, rates=None):
    """Return the states after all steps from the equation of the docstring, shape (rows, steps, nodes)."""
    result, rates = diagonal_matrices(settings, FEATURES), leak_rates(settings)
    leak = settings.leak if rates is None else rates
    units, leak = settings.memory_units, settings.leak if rates is None else rates
    turns = result.recurrent.toarray()
    factors = np.diag(turns)[:units] + 1j * np.diag(turns, -units)
    memory, state, states = np.zeros((len(u), units), dtype=complex), 0.0, []
    for step in range(u.shape[1]):
        memory = factors * memory + u[:, step] @ result.input[:units].T
        mixed = np.tanh(np.hstack([memory.real, memory.imag]) @ result.mixing.T + result.bias)
        state = (1 - leak) * state + leak * mixed
        states.append(state)
    return np.stack(states, axis=1)


@pytest.mark.parametrize("leak", [{"leak": 1.0}, {"leak": 0.2}, {"leak": 0.9, "leak_low": 0.1}])
def test_states_are_those_of_the_equation(leak):
    settings = section(reduction="all", **leak)
    reservoir = Reservoir(settings, FEATURES, steps=STEPS)
    states = reservoir.states(samples())
    expected = by_complex_numbers(settings, samples(), reservoir.rates[0][0])
    np.testing.assert_allclose(states.view(4, STEPS, 30).numpy(), expected, atol=1e-5)


def test_time_constants_are_within_their_bounds():
    result = diagonal_matrices(section(memory_units=400), 1)
    rotation = result.recurrent.toarray()
    decays = np.hypot(np.diag(rotation)[:400], np.diag(rotation, -400))
    steps = -1 / np.log(decays)
    assert 2.0 <= steps.min() < 2.5
    assert 16 < steps.max() <= 20.0
    angles = np.arctan2(np.diag(rotation, -400), np.diag(rotation)[:400])
    assert 0 <= angles.min() < 0.1
    assert np.pi - 0.1 < angles.max() < np.pi


def test_white_input_gives_arguments_of_f_with_the_deviation_input_scaling():
    settings = section(nodes=300, memory_units=200, input_scaling=0.5, bias_scaling=0.0, activation="identity")
    states = Reservoir(settings, FEATURES).states(samples(200, 100))
    assert states.std().item() == pytest.approx(0.5, rel=0.15)


def test_sequences_of_unequal_length_end_with_their_last_step():
    settings, u = section(leak=0.5), samples()
    lengths = np.array([3, 9, 5, 1])
    states = Reservoir(settings, FEATURES).states(u, lengths=lengths)
    expected = by_complex_numbers(settings, u)[np.arange(4), lengths - 1]
    np.testing.assert_allclose(states.numpy(), expected, atol=1e-5)


def test_the_gradient_path_has_the_same_states():
    settings = section(reduction=["mean_std", "segments"], layers=2, bidirectional=True, leak=0.6, leak_low=0.2)
    reservoir = Reservoir(settings, FEATURES)
    u = torch.from_numpy(samples()).requires_grad_()
    states = DifferentiableReservoir(reservoir)(u)
    np.testing.assert_allclose(states.detach().numpy(), reservoir.states(samples()).numpy(), atol=1e-5)
    states.sum().backward()
    assert u.grad.abs().min() > 0


@pytest.mark.parametrize("kernel", ["dense-bf16", "fused-bf16", "sparse-fp32"])
def test_every_kernel_computes_the_same_states(kernel):
    exact, result = (
        Reservoir(section(leak=0.5), FEATURES, name).states(samples()).float() for name in ("dense-fp32", kernel)
    )
    np.testing.assert_allclose(result.numpy(), exact.numpy(), atol=0.03)


def test_noise_is_added_inside_the_activation():
    reservoir = Reservoir(section(noise=0.5, activation="identity"), FEATURES)
    difference = reservoir.states(samples(100), noisy=True) - reservoir.states(samples(100))
    assert difference.std().item() == pytest.approx(0.5, rel=0.1)


def test_blocks_of_many_nodes_are_small():
    reservoir = Reservoir(section(nodes=100_000, memory_units=2, reduction="mean"), FEATURES)
    assert reservoir.only_kernel.most_rows == 167
    assert reservoir.states(samples(170, 2)).shape == (170, 100_000)


@pytest.mark.parametrize("steps", [[0.0, 5.0], [9.0, 3.0], [1.0, 2e6], [1.0]])
def test_invalid_time_constants_are_refused(steps):
    with pytest.raises(ValidationError, match="memory_steps"):
        section(memory_steps=steps)


def test_matrices_of_a_user_are_refused():
    with pytest.raises(ValidationError, match="matrices"):
        section(matrices="own.npz")


def test_a_factor_for_each_feature():
    plain, scaled = diagonal_matrices(section(), 2), diagonal_matrices(section(feature_scaling=[1.0, 3.0]), 2)
    np.testing.assert_allclose(scaled.input, plain.input * [1.0, 3.0])
