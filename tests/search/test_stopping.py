"""Searches that end before their last generation."""

from __future__ import annotations

import pytest
from search.fake_fitness import CheapFitness, cheap_config

from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.records.efficiency import Usage, read_usage
from rcdp_hpc.search.stopping import reason_to_end


def search(folder, pause=0.0, **settings):
    config = cheap_config(**settings)
    fitness = CheapFitness(config, pause)
    return run_search(config, SingleProcess(), fitness, folder), fitness


def test_a_search_ends_at_its_number_of_evaluations_and_can_be_continued(tmp_path):
    best, fitness = search(tmp_path / "short", stop_evaluations=10)
    lines = read_sealed_lines(tmp_path / "short" / "history.jsonl")
    assert 10 <= fitness.calls == best.evaluations <= 14  # complete generations of 7; equal values count once
    assert {line["generation"] for line in lines} == {1, 2}
    _, again = search(tmp_path / "short", stop_evaluations=10)
    assert again.calls == 0
    whole, _ = search(tmp_path / "whole")
    continued, _ = search(tmp_path / "short")
    assert continued.values == whole.values
    assert [line["values"] for line in read_sealed_lines(tmp_path / "short" / "history.jsonl")] == [
        line["values"] for line in read_sealed_lines(tmp_path / "whole" / "history.jsonl")
    ]


def test_a_search_ends_without_improvement(tmp_path):
    best, _ = search(tmp_path, generations=40, stop_stagnation=3)
    last = read_sealed_lines(tmp_path / "history.jsonl")[-1]["generation"]
    assert last == best.generation + 3 < 40


def test_a_search_ends_within_its_seconds(tmp_path, caplog):
    caplog.set_level("INFO")
    search(tmp_path, pause=0.02, generations=500, stop_seconds=1.0)
    assert 1 <= read_sealed_lines(tmp_path / "history.jsonl")[-1]["generation"] < 10
    assert "search.stop_seconds = 1" in caplog.text


@pytest.mark.parametrize(
    ("settings", "reached", "word"),
    [
        ({}, (5, 100, 1, 1e9), ""),
        ({"stop_evaluations": 100}, (5, 99, 5, 0), ""),
        ({"stop_evaluations": 100}, (5, 100, 5, 0), "evaluations"),
        ({"stop_stagnation": 3}, (5, 9, 3, 0), ""),
        ({"stop_stagnation": 3}, (6, 9, 3, 0), "no better candidate"),
        ({"stop_seconds": 100}, (4, 9, 3, 79), ""),
        ({"stop_seconds": 100}, (4, 9, 3, 81), "another generation"),
        ({"stop_seconds": 1}, (0, 0, 0, 50), ""),
    ],
)
def test_reasons_to_end(settings, reached, word):
    reason = reason_to_end(cheap_config(**settings).search, *reached)
    assert word in reason
    assert bool(reason) == bool(word)


def test_usage_of_the_ranks_is_recorded(tmp_path):
    search(tmp_path, pause=0.01)
    usages = read_usage(tmp_path)
    assert [usage.generation for usage in usages] == list(range(1, 7))
    for usage in usages:
        assert usage.candidates * 0.01 <= usage.busy == usage.slowest <= usage.wall
    assert (usages[0].candidates, usages[0].ranks, usages[0].workers) == (7, 1, 1)


def test_usage_by_hand():
    usage = Usage(generation=3, candidates=10, ranks=4, workers=2, wall=2.0, busy=6.0, slowest=1.5)
    assert (usage.efficiency, usage.overhead) == (0.75, 0.25)
    assert usage.summary() == "5 candidates/s, efficiency 75%"
