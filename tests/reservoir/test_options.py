"""Matrices of all topologies and distributions and from files, and refused settings."""

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import ArpackNoConvergence

from rcdp_hpc.config import ReservoirSection, load_config
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir import spectral_radius as radius_module
from rcdp_hpc.reservoir.connection import connection_matrix, input_weights, reservoir_matrices
from rcdp_hpc.reservoir.matrix_files import read_matrices, save_matrices
from rcdp_hpc.reservoir.spectral_radius import spectral_radius
from rcdp_hpc.reservoir.states import Reservoir


def section(**values):
    return ReservoirSection.model_validate({"nodes": 60, "density": 0.2, **values})


def radius(matrix):
    return np.abs(np.linalg.eigvals(matrix.toarray())).max()


@pytest.mark.parametrize("weights", ["uniform", "normal", "bernoulli", "orthogonal"])
@pytest.mark.parametrize("topology", ["random", "ring", "small-world", "cycle-jumps"])
def test_every_topology_and_distribution_has_its_radius(weights, topology):
    if weights == "orthogonal" and topology != "random":
        with pytest.raises(ValueError, match=r"needs reservoir\.topology = 'random'"):
            section(weights=weights, topology=topology)
        return
    matrix = connection_matrix(section(weights=weights, topology=topology, spectral_radius=0.8, jump=7))
    assert radius(matrix) == pytest.approx(0.8, rel=1e-8)
    again = connection_matrix(section(weights=weights, topology=topology, spectral_radius=0.8, jump=7))
    assert (matrix != again).nnz == 0


def test_a_ring_of_any_size_needs_no_search():
    matrix = connection_matrix(section(nodes=5000, topology="ring", spectral_radius=0.9))
    assert matrix.nnz == 5000
    assert np.exp(np.log(np.abs(matrix.data)).mean()) == pytest.approx(0.9, rel=1e-6)
    assert matrix[3, 2] != 0 != matrix[0, 4999]


def test_cycle_with_jumps_by_hand():
    matrix = connection_matrix(section(nodes=6, topology="cycle-jumps", jump=3, weights="bernoulli"))
    result = set(zip(*(axis.tolist() for axis in matrix.nonzero()), strict=True))
    assert result == {(0, 5), (1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (0, 3), (3, 0)}


def test_small_world_without_rewiring_is_a_lattice():
    lattice = connection_matrix(section(nodes=20, density=0.2, topology="small-world", rewiring=0.0))
    assert lattice.nnz == 80
    assert set((np.subtract(*lattice.nonzero()) % 20).tolist()) == {1, 2, 18, 19}
    moved = connection_matrix(section(nodes=20, density=0.2, topology="small-world", rewiring=1.0))
    assert set((np.subtract(*moved.nonzero()) % 20).tolist()) > {1, 2, 18, 19}


@pytest.mark.parametrize("density", [1.0, 0.25])
def test_orthogonal(density):
    matrix = connection_matrix(section(weights="orthogonal", density=density, spectral_radius=1.0)).toarray()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(60), atol=1e-12)
    assert np.count_nonzero(matrix) == round(density * 3600)


def test_distributions_share_their_random_numbers():
    uniform = input_weights(300, 20, 2.0, 1)
    normal, bernoulli = (input_weights(300, 20, 2.0, 1, distribution=name) for name in ("normal", "bernoulli"))
    np.testing.assert_array_equal(bernoulli, 2 * np.sign(uniform))
    assert normal.std() == pytest.approx(2, rel=0.03)
    assert (np.argsort(normal.ravel()) == np.argsort(uniform.ravel())).all()


def test_input_density_and_feature_scaling():
    full = reservoir_matrices(section(), 8).input
    thin = reservoir_matrices(section(input_density=0.25, feature_scaling=[1, 2, 1, 1, 1, 1, 1, 0]), 8).input
    connected = input_weights(60, 8, 1.0, 1, density=0.25) != 0
    assert (connected.sum(axis=1) == 2).all()
    np.testing.assert_array_equal(thin, full * connected * [1, 2, 1, 1, 1, 1, 1, 0])
    with pytest.raises(InputError, match="feature_scaling has 2 factors, but a step has 8"):
        reservoir_matrices(section(feature_scaling=[1, 2]), 8)


def test_large_matrices_have_the_documented_accuracy(monkeypatch):
    """Compare with a tighter tolerance; above the limit the dense method must not be called."""
    matrix = connection_matrix(section(nodes=2100, density=0.01, scaling="weight_scale"))
    monkeypatch.setattr(radius_module, "_dense_radius", lambda block: pytest.fail("dense"))
    loose = spectral_radius(matrix)
    monkeypatch.setattr(radius_module, "DENSE_AT_MOST", 3000)
    assert loose == pytest.approx(spectral_radius(matrix), rel=1e-6)


def test_a_large_matrix_that_does_not_converge_is_refused(monkeypatch):
    def fail(*args, **kwargs):
        raise ArpackNoConvergence("no convergence (%s iterations)", np.empty(0), np.empty((0, 0)))

    monkeypatch.setattr(radius_module, "eigs", fail)
    with pytest.raises(CandidateError, match=r"2100 connected neurons could not be computed.*weight_scale"):
        connection_matrix(section(nodes=2100, density=0.005))


def test_saved_matrices_are_read_back(tmp_path, rng):
    reservoir = Reservoir(section(), 5)
    path = tmp_path / "m.npz"
    save_matrices(path, reservoir.matrices[0][0])
    copy = Reservoir(section(matrices=str(path), seed=99), 5)
    u = rng.random((3, 6, 5), dtype=np.float32)
    np.testing.assert_array_equal(copy.states(u).numpy(), reservoir.states(u).numpy())


def test_dense_matrices_of_the_user(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, recurrent=np.eye(3) * 0.5, input=np.ones((3, 2)))
    result = read_matrices(path, 3, 2)
    assert scipy.sparse.issparse(result.recurrent)
    assert (result.bias == 0).all()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"input": np.ones((3, 2))}, "neither an array 'recurrent'"),
        ({"recurrent": np.eye(3)}, "no array 'input'"),
        ({"recurrent": np.eye(4), "input": np.ones((3, 2))}, r"'recurrent' has the shape \(4, 4\), expected \(3, 3\)"),
        ({"recurrent": np.eye(3), "input": np.ones((3, 5))}, r"'input' has the shape \(3, 5\)"),
        ({"recurrent": np.eye(3), "input": np.full((3, 2), np.nan)}, "not finite"),
        ({"recurrent": np.array([{}] * 9).reshape(3, 3), "input": np.ones((3, 2))}, "cannot be read"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(tmp_path, arrays, words):
    path = tmp_path / "m.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=words):
        read_matrices(path, 3, 2)


def test_a_file_that_is_not_npz_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read as an npz file"):
        read_matrices(tmp_path / "none.npz", 3, 2)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("reservoir.density=0", "reservoir.density = 0: input should be greater than 0"),
        ("reservoir.scans=['rows']", "is a half of reservoir.sequence = 'both'"),
        ("reservoir.reduction=median", "reservoir.reduction"),
        ("readout.ridge_penalties=[0.0]", "every entry must be above 0"),
    ],
)
def test_wrong_settings_are_named(override, words):
    with pytest.raises(InputError, match=words):
        load_config("paper-mnist", [override])
