"""Successive halving: which candidates are evaluated on which rows, for any number of ranks and after a stop."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from search.fake_fitness import CheapFitness, KilledAtCall, cheap_config
from search.group_search import small_config, small_data
from search.outcome import outcome
from search.ranks import Ranks

from rcdp_hpc.errors import CandidateError, StageFailedError, StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.halving import Halving, comparable_fitness
from rcdp_hpc.search.records.archive import Entry, EvaluationArchive

VALUES = np.array([[0.1], [0.2], [0.3], [0.2], [0.4], [0.5]])


def add(archive: EvaluationArchive, rows: list[int], share: float, fitness: list[float]) -> None:
    for row, one in zip(rows, fitness, strict=True):
        archive.add(Entry(1, row, VALUES[row], Evaluation(one, 1.0, 0.5), share))


def test_the_rounds_of_a_generation_by_hand():
    halving, archive = Halving(2, 2), EvaluationArchive()
    assert halving.shares == [0.25, 0.5, 1.0]
    assert halving.pending(VALUES, archive) == ([0, 1, 2, 4, 5], 0.25)  # row 3 equals row 1
    add(archive, [0, 1, 2], 0.25, [5.0, 7.0, -np.inf])
    assert halving.pending(VALUES, archive) == ([4, 5], 0.25)  # the rest after a stop
    add(archive, [4, 5], 0.25, [5.0, 9.0])
    assert halving.pending(VALUES, archive) == ([5, 1, 0], 0.5)  # the best ceil(5/2), the first of equals
    add(archive, [5, 1, 0], 0.5, [2.0, 3.0, 1.0])
    assert halving.pending(VALUES, archive) == ([1, 5], 1.0)
    add(archive, [1, 5], 1.0, [4.0, 6.0])
    assert halving.pending(VALUES, archive) == ([], 1.0)
    entries = halving.latest(VALUES, archive)
    assert [entry.share for entry in entries] == [0.5, 1.0, 0.25, 1.0, 0.25, 1.0]
    # 5.0 on a quarter of the rows counts as 4.0, the least on all rows
    assert comparable_fitness(entries).tolist() == [1.0, 4.0, -np.inf, 4.0, 4.0, 6.0]
    assert archive.best().values == [0.5]  # 9.0 is on fewer rows


def test_a_failed_candidate_is_not_evaluated_again():
    halving, archive = Halving(2, 1), EvaluationArchive()
    add(archive, [0, 1, 2, 4, 5], 0.5, [-np.inf] * 4 + [1.0])
    assert halving.pending(VALUES, archive) == ([5], 1.0)
    add(archive, [5], 1.0, [-np.inf])
    assert halving.pending(VALUES, archive) == ([], 1.0)
    assert comparable_fitness(halving.latest(VALUES, archive)).tolist() == [-np.inf] * 6


def test_without_halving_all_candidates_are_evaluated_on_all_rows():
    archive = EvaluationArchive()
    assert Halving().pending(VALUES, archive) == ([0, 1, 2, 4, 5], 1.0)
    archive.add(Entry(1, 0, VALUES[0], Evaluation(1.0, 1.0, 1.0)))
    assert Halving(1, 3).pending(VALUES, archive) == ([1, 2, 4, 5], 1.0)


def test_an_archive_equals_the_one_of_its_arrays():
    archive = EvaluationArchive()
    add(archive, [0], 0.5, [1.0])
    add(archive, [0], 1.0, [2.0])
    again = EvaluationArchive.from_arrays(archive.arrays(1))
    assert [(entry.share, entry.evaluation.fitness) for entry in again] == [(0.5, 1.0), (1.0, 2.0)]


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple:
    """Return the outcome of a search with halving that was not stopped."""
    folder = tmp_path_factory.mktemp("straight")
    run_search(halved(), SingleProcess(), CheapFitness(halved()), folder)
    return outcome(folder)


def halved(**search: object):
    return cheap_config(**{"halving": 2, "halving_steps": 2, **search})


def test_the_history_has_the_share_and_the_winner_is_evaluated_on_all_rows(tmp_path):
    config = halved()
    fitness = CheapFitness(config)
    best = run_search(config, SingleProcess(), fitness, tmp_path)
    lines = read_sealed_lines(tmp_path / "history.jsonl")
    assert {line["share"] for line in lines} == {0.25, 0.5, 1.0}
    whole = [line for line in lines if line["share"] == 1 and line["fitness"] is not None]
    assert best.fitness == max(line["fitness"] for line in whole)
    assert best.evaluations == fitness.calls
    counts = [len({str(line["values"]) for line in lines if line["generation"] == g and line["share"] == 1})
              for g in range(1, 7)]  # fmt: skip
    assert max(counts) <= 3  # of 7, 4, then 2; one more may be in the archive
    direct = CheapFitness(config)
    for line in lines:
        direct.share = line["share"]
        assert direct(line["values"]).reason == line["reason"]
        assert line["error"] in (None, pytest.approx(direct(line["values"]).error, rel=1e-12))


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_ranks_gives_the_same_trajectory(tmp_path, straight, size):
    def work(comm):
        return run_search(halved(), comm, CheapFitness(halved()), tmp_path)

    assert len(set(map(str, Ranks(size).run(work)))) == 1
    assert outcome(tmp_path) == straight


@pytest.mark.parametrize("call", [3, 9, 12, 30])
def test_a_stopped_and_resumed_search_ends_equal_and_repeats_no_candidate(tmp_path, straight, call):
    signals.install()
    config = halved()
    whole, first, rest = CheapFitness(config), KilledAtCall(config, call, signal.SIGUSR1), CheapFitness(config)
    run_search(config, SingleProcess(), whole, tmp_path / "whole")
    with pytest.raises(StoppedError):
        run_search(config, SingleProcess(), first, tmp_path / "stopped")
    signals.clear()
    run_search(config, SingleProcess(), rest, tmp_path / "stopped")
    assert first.calls + rest.calls == whole.calls
    assert outcome(tmp_path / "stopped") == straight


@pytest.mark.parametrize("lost", [10, 25])
def test_candidates_of_later_rounds_in_journals_are_not_evaluated_again(tmp_path, straight, lost):
    config = halved()

    class Lost(CheapFitness):
        def __call__(self, values):
            if self.calls == lost:
                raise KeyboardInterrupt
            return super().__call__(values)

    whole, rest = CheapFitness(config), CheapFitness(config)
    run_search(config, SingleProcess(), whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_search(config, SingleProcess(), Lost(config), tmp_path / "lost")
    run_search(config, SingleProcess(), rest, tmp_path / "lost")
    assert rest.calls == whole.calls - lost
    assert outcome(tmp_path / "lost") == straight


def test_reservoirs_are_evaluated_on_the_first_rows():
    config, data = small_config(), small_data()
    values = {"density": 0.2, "leak": 0.7, "activation": "tanh"}
    with limit_threads(1):
        fitness = ReservoirFitness(config, data)
        part = fitness.set_share(1 / 3)(values)
        assert part.error == ReservoirFitness(config, data.first(1 / 3))(values).error
        assert fitness.set_share(1.0)(values).error == ReservoirFitness(config, data)(values).error != part.error
    first = data.first(1 / 3)
    assert (len(first.x_train), len(first.x_val)) == (100, 34)
    assert (first.x_train == data.x_train[:100]).all()


def test_halving_with_groups_of_ranks_gives_the_same_bits(tmp_path):
    config = small_config(halving=2, halving_steps=1)
    with limit_threads(1):
        run_search(config, SingleProcess(), ReservoirFitness(config, small_data()), tmp_path / "one")
        grouped = small_config(halving=2, halving_steps=1, group_ranks=2)
        Ranks(3).run(
            lambda comm: run_search(grouped, comm, ReservoirFitness(grouped, small_data()), tmp_path / "three")
        )
    assert outcome(tmp_path / "three") == outcome(tmp_path / "one")


def test_if_all_candidates_fail_on_the_first_rows_the_error_has_the_reason(tmp_path):
    config = halved(generations=1)

    class Failing(CheapFitness):
        def measure(self, values):
            raise CandidateError("no cycle")

    with pytest.raises(StageFailedError, match="every candidate of the search failed, the first one because: no cycle"):
        run_search(config, SingleProcess(), Failing(config), tmp_path)
