"""Progress lines and usage records of a search."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
from search.fake_fitness import CheapFitness, cheap_config

from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.search.coordinator import SearchCoordinator
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.records.efficiency import read_usage
from rcdp_hpc.search.space import searched_space


def test_the_note_of_a_generation_has_fitness_flames_usage_and_the_time_left(tmp_path, monkeypatch):
    """Six ranks in two groups: seven candidates in 100 s, started 10 s after the search."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("rcdp_hpc.search.coordinator.time", SimpleNamespace(monotonic=lambda: now.seconds))
    config = cheap_config(density_weight=0.0)
    coordinator = SearchCoordinator(config, searched_space(config.search), tmp_path, "", ranks=6)
    assert coordinator.note() == ""
    now.seconds = 10.0
    assert len(coordinator.pending()) == 7
    now.seconds = 110.0
    evaluations = [Evaluation(row + 1.0, 1.0, 1.0, (0.5, 1.5)[row % 2], None, (0, 3)[row % 2]) for row in range(6)]
    coordinator.record([*evaluations, Evaluation(-np.inf, np.nan, np.nan, 0.5, "too high", 0)], workers=2)
    coordinator.flush()
    assert coordinator.note() == (
        "generation 1 of 6, best fitness 6, mean 3.5, 6 flames, 1 failed, 0.07 candidates/s, efficiency 3%, 9 min left"
    )
    (usage,) = read_usage(tmp_path)
    assert (usage.candidates, usage.ranks, usage.workers) == (7, 6, 2)
    assert (usage.wall, usage.busy, usage.slowest) == (100.0, 3 * (4 * 0.5 + 3 * 1.5), 3 * 1.5)


def test_progress_reports_every_generation(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO", "rcdp_hpc.runtime.progress")
    monkeypatch.setattr("rcdp_hpc.search.driver.Progress", partial(Progress, interval=0.0))
    config = cheap_config()
    config.run.progress = True
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path)
    for generation in range(1, 6):
        messages = [record.message for record in caplog.records if f"generation {generation} of 6" in record.message]
        assert messages[-1].startswith("search: ")
        assert " of 42 candidates" in messages[-1]
        assert messages[-1].endswith(" s left")
