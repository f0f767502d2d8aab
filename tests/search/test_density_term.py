"""The density term of eq. 5: relative to 1/E of the first candidate, decided by rank 0, equal after a stop."""

from __future__ import annotations

import signal
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from search.fake_fitness import CheapFitness, KilledAtCall, cheap_config
from search.group_search import small_config, small_data
from search.outcome import outcome, untimed
from search.ranks import Ranks
from settings import changed

from rcdp_hpc.errors import CandidateError, InputError, StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.coordinator import SearchCoordinator
from rcdp_hpc.search.density_term import DensityTerm, has_density_term
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.records.archive import Entry, EvaluationArchive
from rcdp_hpc.search.records.best import read_best_record
from rcdp_hpc.search.records.checkpoint import NAME, read_checkpoint, save_checkpoint
from rcdp_hpc.search.space import searched_space

SPACE = {"density": {"low": 0.01, "high": 0.9}, "leak": {"low": 0.1, "high": 1.0}}


def test_the_term_by_hand():
    term = DensityTerm(8.0, 0.25, 1, 0.5)
    assert term(np.array([9.0, 0.5]), 0.04) == 8.0 * 25.0 * 0.0625
    assert DensityTerm(8.0, 0.25, None, 0.5)(np.array([9.0]), 0.04) == 8.0 * 25.0 * 0.0625
    assert DensityTerm(1.0, 0.0, 0, 0.5)(np.array([1.0]), 0.0) == 1e12


def test_an_archive_subtracts_the_term_once_the_first_error_is_known():
    archive = EvaluationArchive(DensityTerm(2.0, 0.1, 0, 0.1))
    entries = [
        Entry(1, 0, np.array([0.3]), Evaluation(-np.inf, np.nan, np.nan)),
        Entry(1, 1, np.array([0.2]), Evaluation(4.0, 0.25, 0.5)),
        Entry(1, 2, np.array([0.6]), Evaluation(5.0, 0.2, 0.5)),
    ]
    for entry in reversed(entries):
        archive.add(entry)
    assert archive.best().evaluation.fitness == 5.0
    archive.settle()
    # E_0 = 0.25 of the first that did not fail: 4 - 2 · 4 · 0.01, and 5 - 2 · 4 · 0.25.
    assert archive.first_error == 0.25
    fitness = [entry.evaluation.fitness for entry in archive]
    assert fitness == pytest.approx([-np.inf, 3.92, 3.0])
    assert archive.best().candidate == 1
    assert archive.get(np.array([0.6])).evaluation.fitness == pytest.approx(3.0)
    again = EvaluationArchive.from_arrays(archive.arrays(1), DensityTerm(2.0, 0.1, 0, 0.1))
    again.settle()
    assert [entry.evaluation.fitness for entry in again] == fitness


@pytest.mark.parametrize(
    ("keys", "has"),
    [
        ({}, True),
        ({"search__density_weight": 0.0}, False),
        ({"search__fitness": "accuracy"}, False),
        ({"search__evaluation": "function"}, False),
        ({"reservoir__kind": "none"}, False),
        ({"reservoir__kind": "diagonal"}, False),
    ],
)
def test_which_searches_have_the_term(keys, has):
    config = changed(cheap_config(), **keys)
    assert has_density_term(config) == has
    assert (DensityTerm.of(config, searched_space(cheap_config().search)) is not None) == has


def search(folder, weight: float, comm=None, **more):
    settings = {"space": SPACE, "population": 8, "generations": 6, "density_weight": weight, **more}
    config = small_config(**settings, density_target=0.3)
    with limit_threads(1):
        data = small_data()
        if config.search.folds > 1:
            data = replace(data, folds=(data.first(0.5), data.first(0.4)))
        return run_search(config, comm or SingleProcess(), ReservoirFitness(config, data), folder)


def test_a_large_weight_moves_the_winner_of_a_search_to_the_target(tmp_path):
    free, bound = search(tmp_path / "free", 0.0), search(tmp_path / "bound", 1000.0)
    assert abs(free.values["density"] - 0.3) > 0.1
    assert abs(bound.values["density"] - 0.3) < 0.02
    assert (free.first_error, free.meaning) == (None, "1/E")
    assert free.fitness == 1 / free.error
    assert bound.fitness == pytest.approx(
        1 / bound.error - 1000 / bound.first_error * (bound.values["density"] - 0.3) ** 2
    )
    assert bound.meaning == f"1/E - 1000/E_0 (p - 0.3)^2, E_0 = {bound.first_error:.4g}"
    # The first candidates are the same, and only the fitness differs.
    first, other = (untimed(tmp_path / name)[0] for name in ("free", "bound"))
    assert (first["values"], first["error"]) == (other["values"], other["error"])
    assert other["error"] == bound.first_error
    assert read_best_record(tmp_path / "bound/best.toml") == bound
    assert read_best_record(tmp_path / "free/best.toml") == free
    assert "first_error" not in tomllib.loads((tmp_path / "free/best.toml").read_text())


@pytest.mark.parametrize("more", [{}, {"halving": 2, "halving_steps": 1}, {"folds": 2, "group_ranks": 2}])
def test_the_same_bits_for_several_ranks(tmp_path, more):
    # One rank does not see the first candidate: the term cannot be computed where a candidate is evaluated.
    settings = {"generations": 2, "population": 5, **more}
    search(tmp_path / "one", 30.0, **{**settings, "group_ranks": 1})
    Ranks(3).run(lambda comm: search(tmp_path / "three", 30.0, comm, **settings))
    assert outcome(tmp_path / "three") == outcome(tmp_path / "one")


@pytest.mark.parametrize("settings", [{}, {"halving": 2, "halving_steps": 2}])
@pytest.mark.parametrize("call", [1, 3, 7, 12])
def test_a_search_that_was_stopped_ends_with_the_same_bits(tmp_path, settings, call):
    signals.install()
    config = cheap_config(density_weight=50.0, generations=3, **settings)
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path / "straight")
    with pytest.raises(StoppedError):
        run_search(config, SingleProcess(), KilledAtCall(config, call, signal.SIGUSR1), tmp_path / "stopped")
    signals.clear()
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path / "stopped")
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "straight")
    # A finished search is read again with the term.
    again = run_search(config, SingleProcess(), CheapFitness(config), tmp_path / "stopped")
    assert again == read_best_record(tmp_path / "stopped/best.toml")


def test_later_candidates_of_an_incomplete_round_do_not_set_the_unit(tmp_path):
    config = cheap_config(density_weight=50.0)
    space = searched_space(config.search)
    coordinator = SearchCoordinator(config, space, tmp_path, "")
    count = len(coordinator.pending())
    coordinator.record([None, *(Evaluation(2.0, 0.5, 0.5) for _ in range(count - 1))])
    coordinator.flush()
    assert coordinator.archive.first_error is None
    resumed = SearchCoordinator(config, space, tmp_path, "")
    assert len(resumed.pending()) == 1
    resumed.record([Evaluation(4.0, 0.25, 0.5)])
    resumed.flush()
    assert resumed.archive.first_error == 0.25
    assert SearchCoordinator(config, space, tmp_path, "").archive.first_error == 0.25


def test_if_all_of_the_first_generation_fail_a_later_candidate_sets_the_unit(tmp_path):
    config = cheap_config(density_weight=50.0, generations=3)

    class Late(CheapFitness):
        def measure(self, values):
            if self.calls <= 7:
                raise CandidateError("too early")
            return super().measure(values)

    best = run_search(config, SingleProcess(), Late(config), tmp_path)
    lines = untimed(tmp_path)
    assert {line["fitness"] for line in lines[:7]} == {None}
    assert best.first_error == next(line["error"] for line in lines[7:] if line["error"] is not None)


def test_a_checkpoint_with_the_term_in_another_unit_is_refused(tmp_path):
    signals.install()
    config = cheap_config(density_weight=50.0)
    with pytest.raises(StoppedError):
        run_search(config, SingleProcess(), KilledAtCall(config, 9, signal.SIGUSR1), tmp_path)
    signals.clear()
    saved = read_checkpoint(tmp_path / NAME)
    del saved.settings["checkpoint"]["density_term"]
    save_checkpoint(tmp_path, saved)
    (tmp_path / "checkpoint.previous.npz").unlink()
    with pytest.raises(InputError, match=r"made with other settings: checkpoint\.density_term"):
        run_search(config, SingleProcess(), CheapFitness(config), tmp_path)
