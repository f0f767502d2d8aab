import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir import spectral_radius as radius_module
from rcdp_hpc.reservoir import topology
from rcdp_hpc.reservoir.connection import biases, connection_matrix, input_weights
from rcdp_hpc.reservoir.random_streams import stream
from rcdp_hpc.reservoir.spectral_radius import spectral_radius

RADIUS_TOLERANCE = 1e-8
PINNED = {
    "weights": [0.20117680781695624, 0.2257116424392016, 0.9602229974811805],
    "places": [1, 4, 6, 11, 13],
    "input": [-0.5336633927996339, -0.9059567847113319],
    "bias": [-0.7717506940558072, 0.7067274104607615],
}


def section(**values):
    return ReservoirSection.model_validate({"nodes": 60, "density": 0.2, **values})


def dense_radius(matrix):
    return np.abs(np.linalg.eigvals(matrix.toarray())).max()


def places(matrix):
    return set(zip(*matrix.nonzero(), strict=True))


@settings(max_examples=40, deadline=None)
@given(nodes=st.integers(1, 70), density=st.floats(0.001, 1), seed=st.integers(0, 2**31 - 1))
def test_number_of_connections_is_exact(nodes, density, seed):
    values = section(nodes=nodes, density=density, seed=seed, scaling="weight_scale")
    expected = round(density * nodes * nodes)
    if expected == 0:
        with pytest.raises(CandidateError, match=r"reservoir\.density"):
            connection_matrix(values)
    else:
        matrix = connection_matrix(values)
        assert matrix.nnz == expected == len(places(matrix))
        assert np.abs(matrix.data).max() <= values.weight_scale


@settings(max_examples=20, deadline=None)
@given(pair=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), seed=st.integers(0, 1000))
def test_masks_are_nested_and_share_their_weights(pair, seed):
    sparse, dense = (
        connection_matrix(section(density=density, seed=seed, scaling="weight_scale")) for density in sorted(pair)
    )
    assert places(sparse) <= places(dense)
    common = dense.toarray()[sparse.toarray() != 0]
    np.testing.assert_array_equal(common, sparse.toarray()[sparse.toarray() != 0])


def test_mask_is_that_of_the_smallest_scores_of_one_matrix():
    nodes, count = 30, 100
    scores = stream("mask", 5).random_raw(nodes * nodes)
    expected = np.sort(np.argsort(scores)[:count])
    matrix = connection_matrix(section(nodes=nodes, density=count / 900, seed=5, scaling="weight_scale")).tocoo()
    np.testing.assert_array_equal(matrix.row * nodes + matrix.col, expected)


def test_the_block_size_does_not_change_the_random_numbers(monkeypatch):
    whole = connection_matrix(section())
    monkeypatch.setattr(topology, "BLOCK_SIZE", 7 * 60 + 11)
    assert (connection_matrix(section()) != whole).nnz == 0


def test_a_bound_that_is_too_low_is_raised(monkeypatch):
    expected = connection_matrix(section(density=0.01, scaling="weight_scale"))
    monkeypatch.setattr(topology.np, "sqrt", lambda value: 0.0)
    assert (connection_matrix(section(density=0.01, scaling="weight_scale")) != expected).nnz == 0


@pytest.mark.parametrize(("nodes", "density"), [(20, 0.3), (100, 0.1), (200, 0.02), (300, 0.1), (300, 1.0)])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_matrix_has_the_spectral_radius_of_the_settings(nodes, density, seed):
    matrix = connection_matrix(section(nodes=nodes, density=density, seed=seed, spectral_radius=0.85))
    assert dense_radius(matrix) == pytest.approx(0.85, rel=RADIUS_TOLERANCE)


@settings(max_examples=25, deadline=None)
@given(nodes=st.integers(200, 320), density=st.floats(0.005, 0.5), seed=st.integers(0, 10**6))
def test_arpack_agrees_with_the_dense_method(nodes, density, seed):
    matrix = connection_matrix(section(nodes=nodes, density=density, seed=seed, scaling="weight_scale"))
    assert spectral_radius(matrix) == pytest.approx(dense_radius(matrix), rel=RADIUS_TOLERANCE)


def test_connections_between_blocks_do_not_change_the_radius():
    cycle = np.roll(np.eye(4), 1, axis=1) * 0.5
    matrix = np.zeros((8, 8))
    matrix[:4, :4], matrix[4:, 4:], matrix[:4, 4:] = cycle, 2 * cycle, 1e6
    assert spectral_radius(scipy.sparse.csr_array(matrix)) == 1.0


def test_a_connection_of_a_neuron_to_itself_is_a_cycle():
    assert spectral_radius(scipy.sparse.csr_array(np.array([[-0.5, 3.0], [0.0, 0.25]]))) == 0.5


@pytest.mark.parametrize("size", [3, 400])
def test_without_a_cycle_the_radius_is_zero_exactly(size):
    order = np.random.default_rng(0).permutation(size)
    matrix = np.triu(np.ones((size, size)), 1)[order][:, order]
    assert spectral_radius(scipy.sparse.csr_array(matrix)) == 0


def test_no_cycle_is_explained():
    with pytest.raises(CandidateError, match=r"no cycle.*reservoir\.density = 0\.001.*50 nodes"):
        connection_matrix(section(nodes=50, density=0.001))


def test_arpack_failure_falls_back_to_the_dense_method(monkeypatch):
    expected = connection_matrix(section(nodes=220))

    def fail(*args, **kwargs):
        raise radius_module.ArpackError(-1)

    monkeypatch.setattr(radius_module, "eigs", fail)
    monkeypatch.setattr(radius_module, "_radii", {})
    np.testing.assert_array_equal(connection_matrix(section(nodes=220)).data, expected.data)
    monkeypatch.setattr(radius_module, "_radii", {})
    monkeypatch.setattr(radius_module, "DENSE_AT_MOST", 100)
    with pytest.raises(CandidateError, match="could not be computed"):
        connection_matrix(section(nodes=220))


def test_the_radius_of_a_matrix_is_computed_once_per_process(monkeypatch):
    monkeypatch.setattr(radius_module, "_radii", {})
    calls = []
    real = radius_module._rounded_radius
    monkeypatch.setattr(radius_module, "_rounded_radius", lambda matrix: calls.append(1) or real(matrix))
    first = connection_matrix(section(nodes=50, seed=1))
    again = connection_matrix(section(nodes=50, seed=1))
    np.testing.assert_array_equal(again.data, first.data)
    assert len(calls) == 1
    connection_matrix(section(nodes=50, seed=2))
    smaller = connection_matrix(section(nodes=50, seed=1, spectral_radius=0.5))
    assert len(calls) == 2
    assert spectral_radius(smaller) == pytest.approx(0.5)
    monkeypatch.setattr(radius_module, "REMEMBERED", 2)
    for seed in range(3, 9):
        connection_matrix(section(nodes=50, seed=seed))
        assert len(radius_module._radii) <= 2


@pytest.mark.parametrize("scaling", ["spectral_radius", "weight_scale"])
def test_same_seed_same_bits_and_another_seed_another_matrix(scaling):
    first, again, other = (connection_matrix(section(nodes=200, scaling=scaling, seed=seed)) for seed in (3, 3, 4))
    assert first.data.tobytes() == again.data.tobytes()
    np.testing.assert_array_equal(first.indices, again.indices)
    assert places(first) != places(other)


def test_weight_scale_multiplies_the_same_weights():
    one, two = (connection_matrix(section(scaling="weight_scale", weight_scale=w)) for w in (0.5, 1.0))
    np.testing.assert_array_equal(2 * one.data, two.data)


def test_random_numbers_are_pinned():
    """Any change of these numbers changes every reservoir of every user."""
    matrix = connection_matrix(section(scaling="weight_scale", weight_scale=1.0, seed=1))
    assert matrix.data[:3].tolist() == PINNED["weights"]
    assert matrix.indices[:5].tolist() == PINNED["places"]
    assert input_weights(2, 2, 1.0, 1)[0].tolist() == PINNED["input"]
    assert biases(2, 1.0, 1).tolist() == PINNED["bias"]


def test_input_weights_and_biases_are_uniform_in_their_bounds():
    weights, bias = input_weights(400, 30, 2.0, 1), biases(5000, 0.5, 1)
    assert weights.shape == (400, 30)
    assert bias.shape == (5000,)
    for values, scale in ((weights, 2.0), (bias, 0.5)):
        assert np.abs(values).max() <= scale
        assert values.std() == pytest.approx(scale / math.sqrt(3), rel=0.02)
        assert abs(values.mean()) < 0.03 * scale
    assert (biases(5, 0.0, 1) == 0).all()
    np.testing.assert_array_equal(input_weights(10, 3, 1.0, 1), input_weights(400, 3, 1.0, 1)[:10])


def test_matrices_and_sequences_need_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import rcdp_hpc.reservoir.connection, "
        "rcdp_hpc.reservoir.sequencing as s, numpy; s.Sequencer('both').sequences(numpy.zeros((2, 3, 3)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
