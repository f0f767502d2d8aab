import numpy as np
import pytest
import scipy.sparse
import torch

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.calibrate import choose_kernel
from rcdp_hpc.reservoir.connection import ReservoirMatrices, reservoir_matrices
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir, kept_steps

# Largest difference from the float64 reference over 28 steps at spectral radius 0.9, states within [-1, 1].
TOLERANCES = {"dense-fp32": 2e-6, "dense-bf16": 0.03}
MEAN_TOLERANCES = {"dense-fp32": 2e-7, "dense-bf16": 0.003}


def section(**values):
    return ReservoirSection.model_validate({"nodes": 120, "density": 0.2, **values})


def reference(settings, u):
    """Eq. 9 in float64 NumPy, sample by sample and step by step."""
    matrices = reservoir_matrices(settings, u.shape[2])
    activation = np.tanh if settings.activation == "tanh" else lambda v: 1 / (1 + np.exp(-v))
    positions = kept_steps(u.shape[1], settings.states)
    rows = []
    for sequence in u.astype(np.float64):
        state, states = np.zeros(settings.nodes), []
        for step in sequence:
            drive = matrices.recurrent @ state + matrices.input @ step + matrices.bias
            state = (1 - settings.leak) * state + settings.leak * activation(drive)
            states.append(state)
        rows.append(np.concatenate([states[step] for step in positions]))
    return np.array(rows)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_two_steps_by_hand(activation):
    f = np.tanh if activation == "tanh" else lambda v: 1 / (1 + np.exp(-v))
    matrices = ReservoirMatrices(
        scipy.sparse.csr_array(np.array([[0.0, 0.5], [-0.25, 0.0]])),
        np.array([[1.0], [-2.0]]),
        np.array([0.1, 0.2]),
    )
    settings = section(nodes=2, leak=0.25, activation=activation, states=2)
    a1 = 0.25 * f(1.0 * 0.3 + 0.1)
    b1 = 0.25 * f(-2.0 * 0.3 + 0.2)
    a2 = 0.75 * a1 + 0.25 * f(0.5 * b1 + 1.0 * -0.7 + 0.1)
    b2 = 0.75 * b1 + 0.25 * f(-0.25 * a1 - 2.0 * -0.7 + 0.2)
    states = Reservoir(settings, 1, matrices=matrices).states(np.array([[[0.3], [-0.7]]], dtype=np.float32))
    np.testing.assert_allclose(states.numpy(), [[a1, b1, a2, b2]], rtol=1e-6)


@pytest.mark.parametrize("kernel", ["dense-fp32", "dense-bf16"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("leak", [1.0, 0.6, 0.05])
@pytest.mark.parametrize("states", [1, 4])
def test_states_agree_with_the_reference(kernel, activation, leak, states, rng):
    settings = section(activation=activation, leak=leak, states=states)
    u = rng.random((17, 28, 9), dtype=np.float32)
    result = Reservoir(settings, 9, kernel).states(u)
    assert result.dtype == (torch.float32 if kernel == "dense-fp32" else torch.bfloat16)
    assert result.shape == (17, states * 120)
    errors = np.abs(result.double().numpy() - reference(settings, u))
    assert errors.max() < TOLERANCES[kernel]
    assert errors.mean() < MEAN_TOLERANCES[kernel]


def test_small_leaks_are_not_lost_in_bfloat16():
    """Steps of 0.2 % of the state are below half a unit in bfloat16's last place."""
    settings = section(nodes=1, density=1, spectral_radius=0.01, leak=0.001, bias_scaling=1.0)
    u = np.ones((1, 3000, 1), dtype=np.float32)
    result = Reservoir(settings, 1, "dense-bf16").states(u)
    np.testing.assert_allclose(result.double().numpy(), reference(settings, u), rtol=0.01)


@pytest.mark.parametrize("sequence", ["rows", "columns", "both"])
def test_compute_returns_the_states_of_the_sequences(sequence, rng):
    settings = section(sequence=sequence, batch_rows=10, states=2)
    x = rng.random((23, 8, 8), dtype=np.float32)
    u = Sequencer(sequence).sequences(x)
    reservoir = Reservoir(settings, u.shape[2])
    counted = []
    result = reservoir.compute(x, advance=counted.append)
    assert counted == [10, 10, 3]
    # Another block size forms the same sums in another order.
    np.testing.assert_allclose(result.numpy(), reservoir.states(u).numpy(), atol=1e-6)
    out = torch.empty(23, reservoir.width)
    assert reservoir.compute(torch.from_numpy(x), out=out) is out
    assert torch.equal(out, result)


def test_same_block_same_bits(rng):
    settings = section(batch_rows=16)
    x = rng.random((48, 6, 6), dtype=np.float32)
    whole = Reservoir(settings, 6).compute(x)
    assert torch.equal(Reservoir(settings, 6).compute(x[16:32]), whole[16:32])


def test_integer_samples_are_not_scaled(rng):
    x = rng.integers(0, 3, (5, 6, 6), dtype=np.uint8)
    reservoir = Reservoir(section(), 6)
    assert torch.equal(reservoir.compute(x), reservoir.compute(x.astype(np.float32)))


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [(28, 1, [27]), (28, 2, [13, 27]), (28, 4, [6, 13, 20, 27]), (8, 3, [1, 4, 7]), (3, 3, [0, 1, 2])],
)
def test_kept_steps(steps, count, expected):
    assert kept_steps(steps, count) == expected


def test_more_states_than_steps_is_explained(rng):
    reservoir = Reservoir(section(states=9), 8)
    with pytest.raises(InputError, match=r"reservoir\.states = 9.*8 steps"):
        reservoir.compute(rng.random((2, 8, 8), dtype=np.float32))


def test_wrong_shapes_are_explained(rng):
    reservoir = Reservoir(section(), 8)
    with pytest.raises(InputError, match="expected"):
        reservoir.states(rng.random((2, 8, 7), dtype=np.float32))
    with pytest.raises(InputError, match=r"7 features.*built for 8"):
        reservoir.compute(rng.random((2, 8, 7), dtype=np.float32))
    with pytest.raises(InputError, match="auto"):
        Reservoir(section(), 8, "auto")


@pytest.mark.parametrize("kernel", ["dense-fp32", "dense-bf16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_states_that_are_not_finite_are_refused(kernel, bad):
    u = np.ones((4, 3, 2), dtype=np.float32)
    u[2, 0, 1] = bad
    # An infinite input saturates a tanh neuron and its state stays finite; 0 times it does not.
    matrices = ReservoirMatrices(scipy.sparse.csr_array(np.eye(3)), np.array([[0, 0.0]] * 3), np.zeros(3))
    with pytest.raises(CandidateError, match=r"row 2 of the batch holds (nan|inf) \(step 0, feature 1\).*not finite"):
        Reservoir(section(nodes=3), 2, kernel, matrices=matrices).states(u)


def test_kernel_is_chosen_by_measurement(caplog):
    with caplog.at_level("INFO"):
        assert choose_kernel(200, 8, 64, 1) in ("dense-fp32", "dense-bf16", "fused-bf16")
    assert "dense-fp32" in caplog.text
    assert "dense-bf16" in caplog.text


@pytest.mark.parametrize(("half", "choice"), [(0.8, "dense-bf16"), (0.9, "dense-fp32")])
def test_bfloat16_must_be_clearly_faster(monkeypatch, half, choice):
    monkeypatch.setattr(
        "rcdp_hpc.reservoir.calibrate._fastest", lambda reservoirs, block: [1.0, half, half][: len(reservoirs)]
    )
    assert choose_kernel(20, 4, 8, 1) == choice
