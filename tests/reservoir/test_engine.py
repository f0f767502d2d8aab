"""Every option of the engine against the float64 reference."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from reservoir.reference import expected

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.kernels import kernel_class, kernel_names
from rcdp_hpc.reservoir.noise import SampleNoise
from rcdp_hpc.reservoir.sequence_run import SequenceRun
from rcdp_hpc.reservoir.states import Reservoir

# Largest difference from float64 per layer, over 12 steps at spectral radius 0.9, states within [-1, 1].
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 0.03, torch.float16: 0.004}
OPTIONS = {
    "leak": {"leak": 0.3},
    "sigmoid": {"activation": "sigmoid"},
    "relu": {"activation": "relu", "leak": 0.5},
    "identity": {"activation": "identity", "spectral_radius": 0.5, "input_scaling": 0.2},
    "spaced": {"states": 4},
    "chosen": {"steps": [0, 2, -1]},
    "mean": {"reduction": "mean", "warm_up": 1},
    "mean_std": {"reduction": "mean_std", "leak": 0.4},
    "warm_up": {"warm_up": 2, "states": 1},
    "deep": {"layers": 3, "leak": 0.5, "states": 2},
    "bidirectional": {"bidirectional": True},
    "scans": {"sequence": "both", "scans": ["rows", "columns-backward", "backward"], "states": 2},
    "window": {"window": 3, "scans": ["forward", "backward"]},
    "ring": {"topology": "ring"},
    "all": {"layers": 2, "bidirectional": True, "reduction": "mean_std", "window": 2, "leak": 0.7, "warm_up": 1},
}


def section(**values):
    return ReservoirSection.model_validate({"nodes": 50, "density": 0.2, **values})


def allowed(reservoir, target):
    return TOLERANCES[reservoir.dtype] * reservoir.settings.layers * max(1, np.abs(target).max())


def kernels():
    """Return the kernels of the table that run on CPUs."""
    names = []
    for name in kernel_names():
        with suppress(InputError):
            kernel_class(name).for_device(torch.device("cpu"))
            names.append(name)
    return names


@pytest.mark.parametrize("kernel", kernels())
@pytest.mark.parametrize("option", OPTIONS)
def test_agrees_with_float64(kernel, option, rng):
    reservoir = Reservoir(section(**OPTIONS[option]), 6, kernel)
    u = rng.random((9, 12, 6), dtype=np.float32)
    result = reservoir.states(u)
    assert result.shape == (9, reservoir.width)
    assert result.dtype == kernel_class(kernel).dtype
    target = expected(reservoir, u)
    assert np.abs(result.double().numpy() - target).max() < allowed(reservoir, target)


@pytest.mark.parametrize("kernel", kernels())
@pytest.mark.parametrize("option", OPTIONS)
def test_lengths_and_padding(kernel, option, rng):
    reservoir = Reservoir(section(**OPTIONS[option]), 6, kernel)
    u = rng.random((7, 12, 6), dtype=np.float32)
    lengths = np.array([5, 12, 7, 5, 12, 4, 9])
    target = expected(reservoir, u, lengths)
    for row, length in enumerate(lengths):
        u[row, length:] = np.nan  # padding is never looked at
    result = reservoir.states(u, lengths=lengths)
    assert np.abs(result.double().numpy() - target).max() < allowed(reservoir, target)


@pytest.mark.parametrize("lengths", [None, [3, 8, 1, 5, 5, 8, 2]])
def test_small_blocks_of_the_sparse_kernel_give_the_same_states(lengths, monkeypatch, rng):
    u = rng.random((7, 8, 6), dtype=np.float32)
    whole = Reservoir(section(), 6, "sparse-fp32").states(u, lengths=lengths)
    monkeypatch.setattr("rcdp_hpc.reservoir.kernels.sparse.CACHED_BYTES", 0)
    monkeypatch.setattr("rcdp_hpc.reservoir.kernels.sparse.LEAST_ROWS", 3)
    reservoir = Reservoir(section(), 6, "sparse-fp32")
    assert reservoir.only_kernel.most_rows == 3
    torch.testing.assert_close(reservoir.states(u, lengths=lengths), whole, rtol=0, atol=1e-6)


def test_compute_takes_lengths(rng):
    reservoir = Reservoir(section(batch_rows=4), 6)
    x = rng.random((10, 8, 6), dtype=np.float32)
    lengths = rng.integers(1, 9, 10)
    np.testing.assert_allclose(
        reservoir.compute(x, lengths=lengths).numpy(), expected(reservoir, x, lengths), atol=2e-6
    )


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([3, 9], "row 1 has length 9"),
        ([0, 3], "row 0 has length 0"),
        ([3], "one for each of 2"),
        ([3, 1], "states = 2"),
    ],
)
def test_wrong_lengths_are_named(lengths, words, rng):
    with pytest.raises(InputError, match=words):
        Reservoir(section(states=2), 3).states(rng.random((2, 8, 3), dtype=np.float32), lengths=lengths)


@pytest.mark.parametrize(
    ("values", "words"),
    [({"steps": [8]}, "step 8 is not within the 8 steps"), ({"reduction": "mean", "warm_up": 8}, "leaves nothing"),
     ({"states": 4, "warm_up": 5}, "the 3 steps of a sample left after reservoir.warm_up = 5")],
)  # fmt: skip
def test_sequences_too_short_are_explained(values, words, rng):
    with pytest.raises(InputError, match=words):
        Reservoir(section(**values), 3).states(rng.random((2, 8, 3), dtype=np.float32))


@pytest.mark.parametrize("kernel", kernels())
def test_unused_memory_does_not_reach_the_states(kernel, monkeypatch, rng):
    # With 500 nodes and 56 features the first bfloat16 product has 76 columns, past which AMX instructions read.
    u = rng.random((37, 4, 56), dtype=np.float32)
    target = Reservoir(section(nodes=500), 56, kernel).states(u)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda like, *size: like.new_full(size, np.nan))
    assert torch.equal(Reservoir(section(nodes=500), 56, kernel).states(u), target)


def test_scans_and_layers_have_their_own_matrices():
    single = Reservoir(section(), 6)
    several = Reservoir(section(scans=["forward", "forward"], layers=2), 6)
    first, second = several.matrices
    np.testing.assert_array_equal(first[0].recurrent.toarray(), single.matrices[0][0].recurrent.toarray())
    np.testing.assert_array_equal(first[0].input, single.matrices[0][0].input)
    everything = [result.recurrent.toarray() for result in (*first, *second)]
    assert len({array.tobytes() for array in everything}) == 4


def test_noise_belongs_to_the_sample(rng):
    reservoir = Reservoir(section(noise=0.1, states=2), 6)
    u = rng.random((8, 5, 6), dtype=np.float32)
    calm, noisy = reservoir.states(u), reservoir.states(u, noisy=True)
    assert 0.01 < float((noisy - calm).std()) < 0.2
    alone = reservoir.states(u[3:5], noisy=True)
    np.testing.assert_allclose(alone.numpy(), noisy[3:5].numpy(), atol=1e-6)
    assert not torch.equal(noisy[0], reservoir.states(u[[0]] + 0.001, noisy=True)[0])
    flat = SampleNoise(torch.rand(200, 3, 2), 1).normal(0, 0, 500, 200)
    assert abs(float(flat.mean())) < 0.01
    assert float(flat.std()) == pytest.approx(1, abs=0.01)


def test_noise_with_sequences_of_unequal_length(rng):
    reservoir = Reservoir(section(noise=0.1), 6)
    u = rng.random((4, 9, 6), dtype=np.float32)
    lengths = [4, 9, 2, 9]
    result = reservoir.states(u, lengths=lengths, noisy=True)
    alone = reservoir.states(u[[2]], lengths=[2], noisy=True)
    np.testing.assert_allclose(result[[2]].numpy(), alone.numpy(), atol=1e-6)


def test_overflow_names_the_row(rng):
    settings = section(activation="relu", spectral_radius=10, leak=1, density=1)
    u = np.zeros((3, 200, 2), dtype=np.float32)
    u[1] = 1
    with pytest.raises(CandidateError, match=r"not finite \(row [01] overflows\).*bounded reservoir\.activation"):
        Reservoir(settings, 2).states(u)


def test_bad_rows_are_counted_from_the_start_of_the_samples(rng):
    x = rng.random((9, 4, 4), dtype=np.float32)
    x[6, 1, 2] = np.nan
    with pytest.raises(CandidateError, match=r"rows from 4: row 2 of the batch holds nan \(step 1, feature 2\)"):
        Reservoir(section(batch_rows=4), 4).compute(x)


def test_unstable_settings_and_few_nodes_are_logged_once(caplog, monkeypatch):
    monkeypatch.setattr("rcdp_hpc.runtime.logs._logged_once", set())
    for radius in (3.0, 4.0):
        Reservoir(section(spectral_radius=radius), 6)
        Reservoir(section(nodes=5, density=1), 6)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "far above 1" in messages[0]
    assert "fewer than the 6 features" in messages[1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch_and_is_logged_once(caplog, monkeypatch, rng, error):
    monkeypatch.setattr("rcdp_hpc.runtime.logs._logged_once", set())
    reservoir = Reservoir(section(), 6)
    u = rng.random((8, 5, 6), dtype=np.float32)
    whole, compute = reservoir.states(u), SequenceRun.compute

    def small(self, part, *others, **options):
        if len(part) > 3:
            raise error
        compute(self, part, *others, **options)

    monkeypatch.setattr(SequenceRun, "compute", small)
    for _ in range(2):
        np.testing.assert_allclose(reservoir.states(u).numpy(), whole.numpy(), atol=1e-6)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1, messages
    assert "cpu: the states of 8 samples do not fit into memory: continuing with 4 at a time" in messages[0]
    something = RuntimeError("something else")
    monkeypatch.setattr(SequenceRun, "compute", lambda *others, **options: (_ for _ in ()).throw(something))
    with pytest.raises(RuntimeError, match="something else"):
        reservoir.states(u)
