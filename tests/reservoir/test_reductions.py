"""Joined reductions and leak rates of the neurons with every kernel, compared with NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from reservoir.reference import driven_together, expected

from rcdp_hpc.config import ReservoirSection, load_config
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.connection import leak_rates
from rcdp_hpc.reservoir.gradient import DifferentiableReservoir
from rcdp_hpc.reservoir.kernels import kernel_names
from rcdp_hpc.reservoir.reductions import JoinedReductions
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.search.checks import checked_space

SEVERAL = ["segments", "mean_std", "last", "positive", "states", "max"]
TOLERANCES = {"dense-fp32": 2e-6, "sparse-fp32": 2e-6}


def section(**values):
    return ReservoirSection.model_validate({"nodes": 40, "density": 0.3, **values})


@pytest.mark.parametrize("kernel", [name for name in kernel_names() if name != "dense-fp16"])
@pytest.mark.parametrize("leaks", [{}, {"leak": 0.9, "leak_low": 0.05}])
@pytest.mark.parametrize("lengths", [None, [9, 3, 12, 5, 12, 4]])
def test_joined_reductions_agree_with_the_reference(kernel, leaks, lengths, rng):
    reservoir = Reservoir(section(reduction=SEVERAL, segments=3, states=2, warm_up=1, **leaks), 4, kernel)
    u = rng.normal(size=(6, 12, 4)).astype(np.float32)
    result = reservoir.states(u, lengths=lengths).double().numpy()
    assert result.shape == (6, (3 + 2 + 1 + 1 + 2 + 1) * 40) == (6, reservoir.width)
    errors = np.abs(result - expected(reservoir, u, lengths))
    # A state next to 0 may be on the other side of it in 16 bits.
    share = errors.reshape(6, 10, 40)[:, 6]
    assert np.delete(errors.reshape(6, 10, 40), 6, axis=1).max() < TOLERANCES.get(kernel, 0.06)
    assert share.mean() < TOLERANCES.get(kernel, 0.01)


@pytest.mark.parametrize(
    "values",
    [
        {"layers": 2, "bidirectional": True, "window": 2},
        {"scans": ["rows", "columns-backward"], "sequence": "both"},
        {"layers": 3, "activation": "relu", "leak": 0.5},
    ],
)
def test_scans_and_layers_have_their_own_rates_and_reductions(values, rng):
    reservoir = Reservoir(section(leak_low=0.1, reduction=["std", "segments"], **values), 4)
    u, lengths = rng.normal(size=(5, 8, 4)).astype(np.float32), [8, 2, 5, 7, 8]
    target = expected(reservoir, u, lengths)
    np.testing.assert_allclose(reservoir.states(u, lengths=lengths).numpy(), target, atol=5e-6)
    assert not np.array_equal(reservoir.rates[0][0], reservoir.rates[-1][-1])


def test_segments_by_hand():
    """Of 7 steps: 0 to 1, 2 to 3, 4 to 6; of 2 steps, fewer than 3 segments: 0, 0, 1."""
    out = torch.empty(2, 3, 1)
    reduction = JoinedReductions(section(nodes=1, reduction="segments", segments=3), out, 7, [7, 2])
    for step in range(7):
        reduction.take(step, torch.tensor([[2.0**step], [10.0 + step]]), 2 if step < 2 else 1)
    reduction.finish()
    assert out[:, :, 0].tolist() == [[1.5, 6.0, pytest.approx((16 + 32 + 64) / 3)], [10.0, 10.0, 11.0]]


@settings(max_examples=60, deadline=None)
@given(
    lengths=strategies.lists(strategies.integers(1, 17), min_size=1, max_size=9),
    segments=strategies.integers(1, 20),
    padding=strategies.integers(0, 3),
)
def test_segments_of_any_lengths(lengths, segments, padding):
    reservoir = Reservoir(section(nodes=5, reduction=["segments", "positive", "last"], segments=segments, leak=0.4), 2)
    u = np.random.default_rng(sum(lengths)).normal(size=(len(lengths), max(lengths) + padding, 2)).astype(np.float32)
    for row, length in enumerate(lengths):
        u[row, length:] = np.nan
    result = reservoir.states(u, lengths=lengths).numpy()
    target = expected(reservoir, np.nan_to_num(u), lengths)
    np.testing.assert_allclose(result, target, atol=2e-6)
    differentiable = DifferentiableReservoir(reservoir)(torch.from_numpy(np.nan_to_num(u)), lengths)
    np.testing.assert_allclose(differentiable.numpy(), target, atol=2e-6)


def test_a_single_name_is_a_list_of_one(rng):
    u = rng.normal(size=(3, 6, 2)).astype(np.float32)
    assert section(reduction="mean").reduction == ["mean"]
    assert load_config("digits", ["reservoir.reduction=std, last"]).reservoir.reduction == ["std", "last"]
    both, mean, std = (Reservoir(section(reduction=name), 2).states(u) for name in ("mean_std", "mean", ["std"]))
    assert torch.equal(both, torch.cat([mean, std], dim=1))
    assert torch.equal(Reservoir(section(reduction=["mean", "std"]), 2).states(u), both)
    assert torch.equal(Reservoir(section(reduction="last"), 2).states(u), Reservoir(section(), 2).states(u))


def test_stacked_reservoirs_have_their_own_rates(rng):
    candidates = [Reservoir(section(leak=leak, leak_low=0.05, reduction=["segments", "std"]), 4) for leak in (0.1, 1.0)]
    u = torch.from_numpy(rng.normal(size=(5, 8, 4)).astype(np.float32))
    for result, reservoir in zip(driven_together(candidates, u), candidates, strict=True):
        np.testing.assert_allclose(result.numpy(), reservoir.states(u).numpy(), atol=1e-6)


def test_rates_are_log_uniform_and_follow_from_seed_and_values():
    rates = leak_rates(section(nodes=4000, leak_low=0.02))
    assert 0.02 <= rates.min() < 0.0202
    assert 0.99 < rates.max() <= 1
    assert np.median(rates) == pytest.approx(np.sqrt(0.02), rel=0.1)
    np.testing.assert_array_equal(rates, leak_rates(section(nodes=4000, leak_low=0.02, density=0.1)))
    assert not np.array_equal(rates, leak_rates(section(nodes=4000, leak_low=0.02, seed=2)))
    assert leak_rates(section(leak=0.3)) is None
    np.testing.assert_array_equal(leak_rates(section(leak=0.3, leak_low=0.3)), np.full(40, 0.3))


def test_equal_rates_are_one_rate(rng):
    u = rng.normal(size=(3, 6, 2)).astype(np.float32)
    alike, one = (Reservoir(section(leak=0.3, leak_low=low), 2).states(u) for low in (0.3, 0))
    np.testing.assert_allclose(alike.numpy(), one.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"reduction": []}, "at least 1"),
        ({"reduction": ["mean", "mean_std"]}, "keeps 'mean' twice"),
        ({"reduction": ["all", "mean"]}, "'all' keeps every state and takes no other"),
        ({"reduction": ["mean", "last"], "steps": [1]}, r"reservoir\.steps needs 'states'"),
        ({"reduction": "positive", "activation": "sigmoid"}, "'positive' is 1 for every neuron"),
        ({"leak": 0.1, "leak_low": 0.2}, r"must not be below reservoir\.leak_low = 0\.2"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        section(**values)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["reservoir.leak_low=0.2", "search.space.leak={low=0.1, high=1.0}"], "goes down to 0.1, below"),
        (["reservoir.leak_low=0.2", "search.space.leak={choices=[0.5, 0.15]}"], "goes down to 0.15, below"),
        (
            ["reservoir.reduction=positive", "search.space.activation={choices=['tanh', 'sigmoid']}"],
            "remove one of the two",
        ),
    ],
)
def test_a_search_that_contradicts_the_reservoir_is_refused(overrides, words):
    config = load_config("digits", ["search.evaluation=train", *overrides])
    with pytest.raises(InputError, match=words):
        checked_space(config)


def test_a_candidate_below_the_lowest_rate_fails():
    with pytest.raises(CandidateError, match=r"reservoir\.leak = 0\.1 is below reservoir\.leak_low = 0\.2"):
        Reservoir(section(leak_low=0.2).model_copy(update={"leak": 0.1}), 3)


def test_means_of_16_bit_states_are_within_half_a_unit_of_float32_ones(rng):
    """With leak 1 reductions see states of 16 bits, 2^-9 of a state from float32; the mean is rounded once more."""
    settings = ReservoirSection.model_validate({"nodes": 30, "density": 0.3, "reduction": ["mean"]})
    reservoir = Reservoir(settings, 4, "dense-bf16")
    u = torch.from_numpy(rng.random((6, 12, 4), dtype=np.float32))
    weights = reservoir.only_kernel.weights
    joined = torch.zeros(6, len(weights), dtype=torch.bfloat16)
    joined[:, 34] = 1
    total = torch.zeros(6, 30)
    for step in u.unbind(1):
        joined[:, 30:34] = step
        moved = (joined @ weights).float().tanh()
        joined[:, :30] = moved
        total += moved
    assert float((reservoir.states(u).float() - total / 12).abs().max()) <= 2 * 2**-9
