"""What rank 0 tells of a search while it runs."""

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
from rcdp_hpc.search.optimizers import MothFlame
from rcdp_hpc.search.records.efficiency import read_usage
from rcdp_hpc.search.space import searched_space


def test_a_generation_is_told_with_its_fitness_flames_usage_and_the_time_left(tmp_path, monkeypatch):
    """Six ranks in two groups: seven candidates in 100 s, begun 10 s after the search was."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("rcdp_hpc.search.coordinator.time", SimpleNamespace(monotonic=lambda: now.seconds))
    config = cheap_config()
    root = SearchCoordinator(config, searched_space(config.search), tmp_path, "", MothFlame, ranks=6)
    assert root.note() == ""
    now.seconds = 10.0
    assert len(root.unknown()) == 7
    now.seconds = 110.0
    found = [Evaluation(row + 1.0, 1.0, 1.0, (0.5, 1.5)[row % 2], None, (0, 3)[row % 2]) for row in range(6)]
    root.take([*found, Evaluation(-np.inf, np.nan, np.nan, 0.5, "too high", 0)], workers=2)
    root.settle()
    assert root.note() == (
        "generation 1 of 6, best fitness 6, mean 3.5, 6 flames, 1 failed, 0.07 candidates/s, efficiency 3%, 9 min left"
    )
    (usage,) = read_usage(tmp_path)
    assert (usage.candidates, usage.ranks, usage.workers) == (7, 6, 2)
    assert (usage.wall, usage.busy, usage.slowest) == (100.0, 3 * (4 * 0.5 + 3 * 1.5), 3 * 1.5)


def test_progress_tells_every_generation(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO", "rcdp_hpc.runtime.progress")
    monkeypatch.setattr("rcdp_hpc.search.driver.Progress", partial(Progress, interval=0.0))
    config = cheap_config()
    config.run.progress = True
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path)
    for generation in range(1, 6):
        told = [record.message for record in caplog.records if f"generation {generation} of 6" in record.message]
        assert told[-1].startswith("search: ")
        assert " of 42 candidates" in told[-1]
        assert told[-1].endswith(" s left")
