"""Spectral radii computed ahead by processes of idle cores."""

from __future__ import annotations

import time

import pytest
from search.group_search import small_config, small_data

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir import spectral_radius
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.evaluation import matrix_cache, radii_ahead
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.matrix_cache import MatrixCache
from rcdp_hpc.search.evaluation.radii_ahead import RadiiAhead

CANDIDATES = [{"density": density, "leak": 0.7, "activation": "tanh"} for density in (0.2, 0.3, 0.4, 0.0004)]


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


def waited_for(condition):
    until = time.monotonic() + 60
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)


def test_candidates_have_the_bits_and_the_reasons_of_a_rank_without_idle_cores(monkeypatch):
    expected = [ReservoirFitness(small_config(), small_data())(values) for values in CANDIDATES]
    spectral_radius._radii.clear()
    fitness = ReservoirFitness(small_config(), small_data(), idle_cores=1)
    ahead = fitness.cache.ahead
    fitness.prepare(CANDIDATES)
    waited_for(lambda: not (ahead._wanted or ahead._in_progress))
    alone = []
    monkeypatch.setattr(
        matrix_cache, "spectral_radius", lambda matrix: alone.append(matrix) or spectral_radius.spectral_radius(matrix)
    )
    found = [fitness(values) for values in CANDIDATES]
    fitness.close()
    assert [(one.error, one.reason) for one in found][:3] == [(one.error, one.reason) for one in expected][:3]
    assert found[3].reason == expected[3].reason
    assert ahead.taken >= 2
    assert len(alone) == 1  # the first one is needed at once
    assert all(process.poll() is not None for process in ahead._processes)


def test_a_radius_that_nobody_has_begun_is_computed_by_the_rank():
    ahead = RadiiAhead(1)
    ahead._start = lambda: None
    ahead.ask([(1, 40, 100), (1, 40, 200)])
    assert ahead.radius((1, 40, 100)) is None
    assert list(ahead._wanted) == [(1, 40, 200)]
    assert ahead.radius((1, 40, 300)) is None


def test_without_processes_every_radius_is_computed_by_the_rank(monkeypatch, caplog):
    def refused(*_, **__):
        raise OSError("no more processes")

    monkeypatch.setattr(radii_ahead.subprocess, "Popen", refused)
    cache = MatrixCache(ahead=RadiiAhead(2))
    settings = [ReservoirSection.model_validate({"nodes": 40, "density": density}) for density in (0.2, 0.3)]
    cache.prepare(settings)
    assert [cache.unscaled(one)[1] for one in settings] == [MatrixCache().unscaled(one)[1] for one in settings]
    assert "no process for spectral radii could be started (no more processes)" in caplog.text
    cache.ahead.close()


def test_a_process_that_ends_leaves_its_radius_to_the_rank(monkeypatch):
    monkeypatch.setattr(radii_ahead.sys, "executable", "/bin/true")
    ahead = RadiiAhead(1)
    ahead.ask([(1, 40, 100)])
    assert ahead.radius((1, 40, 100)) is None
    ahead.close()
    ahead.ask([(1, 40, 200)])
    assert ahead.radius((1, 40, 200)) is None


@pytest.mark.parametrize("settings", [{"scaling": "weight_scale"}, {"topology": "ring"}])
def test_no_process_is_started_where_no_radius_is_needed(settings):
    config = small_config(space={"leak": {"low": 0.2, "high": 1.0}})
    config = config.model_copy(update={"reservoir": config.reservoir.model_copy(update=settings)})
    assert ReservoirFitness(config, small_data(), idle_cores=4).cache.ahead is None
    assert ReservoirFitness(small_config(), small_data()).cache.ahead is None
