"""Spectral radii by repeated squaring, against ARPACK, LAPACK and matrices whose radius is known."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir import gelfand
from rcdp_hpc.reservoir.connection import connection_matrix, reservoir_matrices, unscaled_matrix
from rcdp_hpc.reservoir.gelfand import rounded_radius, spectral_radii
from rcdp_hpc.reservoir.shared_draws import SharedDraws
from rcdp_hpc.reservoir.spectral_radius import rounded, spectral_radius
from rcdp_hpc.search.evaluation.matrix_cache import MatrixCache
from rcdp_hpc.search.evaluation.rank_group import attempt

SETTINGS = [
    {"density": 0.02}, {"density": 0.1}, {"density": 0.6}, {"density": 0.006}, {"density": 0.012},
    {"topology": "ring"}, {"topology": "cycle-jumps", "jump": 7}, {"topology": "small-world", "density": 0.05},
    {"density": 0.1, "weights": "bernoulli"}, {"density": 0.1, "weights": "normal"},
]  # fmt: skip


def matrices(nodes: int, seeds: range):
    return [
        unscaled_matrix(ReservoirSection.model_validate({"nodes": nodes, "seed": seed, **settings}), ())
        for settings in SETTINGS
        for seed in seeds
    ]


def stacked(sparse):
    return torch.from_numpy(np.stack([one.toarray() for one in sparse]))


@pytest.mark.parametrize(("nodes", "seeds"), [(40, range(6)), (210, range(1))])
def test_the_digits_are_those_of_the_sparse_solver(nodes, seeds):
    sparse = matrices(nodes, seeds)
    labels = np.stack([connected_components(one, connection="strong")[1] for one in sparse]).astype(np.int64)
    found = spectral_radii(stacked(sparse), torch.from_numpy(labels)).tolist()
    assert [rounded(one, nodes) for one in found] == [spectral_radius(one) for one in sparse]


def test_connections_between_blocks_change_nothing_that_is_not_rounded_away():
    generator = np.random.default_rng(0)
    blocks = [generator.normal(size=(size, size)) for size in (9, 1, 6)]
    matrix = np.triu(generator.normal(size=(16, 16)), 1)
    start = 0
    for block in blocks:
        matrix[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    expected = max(np.abs(np.linalg.eigvals(block)).max() for block in blocks)
    both = torch.from_numpy(np.stack([matrix, matrix * 1e100]))
    assert spectral_radii(both).numpy() == pytest.approx([expected, 1e100 * expected], rel=1e-11)


@pytest.mark.parametrize("density", [0.001, 0.02, 0.5])
def test_a_cache_of_a_device_has_the_same_matrices(density):
    settings = ReservoirSection.model_validate({"nodes": 60, "density": density})
    alone, found = (attempt(partial(one.matrices, settings, 2)) for one in (MatrixCache(), MatrixCache(device="cpu")))
    assert str(alone[1]) == str(found[1])
    assert alone[0] is None or (alone[0].recurrent != found[0].recurrent).nnz == 0


def test_a_matrix_without_a_cycle_has_radius_zero():
    matrix = torch.triu(torch.rand(3, 30, 30, dtype=torch.float64), 1)
    matrix[1, 29, 0] = 0.5
    found = spectral_radii(matrix)
    assert found[0] == found[2] == 0
    assert found[1] > 0.3


def test_a_value_that_is_not_finite_gives_no_radius():
    matrix = torch.rand(2, 5, 5, dtype=torch.float64)
    matrix[1, 0, 0] = torch.inf
    assert torch.isfinite(spectral_radii(matrix)).tolist() == [True, False]


def test_large_matrices_are_squared_one_after_the_other(monkeypatch):
    matrix = torch.rand(3, 8, 8, dtype=torch.float64)
    labels = torch.zeros(3, 8, dtype=torch.int64)
    expected = spectral_radii(matrix)
    monkeypatch.setattr(gelfand, "NUMBERS_AT_ONCE", 65)
    np.testing.assert_allclose(spectral_radii(matrix, labels).numpy(), expected.numpy(), rtol=1e-14)


def test_shared_numbers_give_the_bits_of_single_matrices():
    draws = SharedDraws(3, 50)
    for density in (0.0004, 0.02, 0.3, 1.0):
        settings = ReservoirSection.model_validate({"nodes": 50, "seed": 3, "density": density})
        expected = unscaled_matrix(settings, ())
        found = draws.matrix(round(density * 2500))
        np.testing.assert_array_equal(found.toarray(), expected.toarray())


def test_equal_scores_have_no_bound():
    draws = SharedDraws(3, 4)
    draws.scores[:] = np.arange(16) // 2
    assert draws.bound(2) == 0
    assert draws.bound(3) is None
    assert draws.matrix(3) is None


def test_reservoirs_on_a_gpu_have_radii_by_squaring(monkeypatch):
    """The device of the numbers is that of the matrices, so a CPU that is called a GPU computes them."""
    seen = []

    def on_cpu(matrix, device):
        seen.append(str(device))
        return rounded_radius(matrix, "cpu")

    monkeypatch.setattr(gelfand, "rounded_radius", on_cpu)
    settings = ReservoirSection.model_validate({"nodes": 60, "density": 0.2, "spectral_radius": 0.8})
    for device, devices in (("cpu", []), ("cuda:1", ["cuda:1"])):
        radius = gelfand.radius_on(torch.device(device))
        found = reservoir_matrices(settings, 3, radius_of=radius)
        np.testing.assert_array_equal(found.recurrent.toarray(), connection_matrix(settings).toarray())
        assert seen == devices
