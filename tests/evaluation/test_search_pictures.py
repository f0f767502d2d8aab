from __future__ import annotations

import numpy as np
import pytest
from search.cheap import CheapFitness, cheap_config

from rcdp_hpc.cli import main
from rcdp_hpc.errors import InputError
from rcdp_hpc.evaluation.search_pictures import best_so_far, draw_search
from rcdp_hpc.runtime.comm import SingleProcess
from rcdp_hpc.search.candidate import Evaluation
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.history import History, history_line
from rcdp_hpc.search.memory import Entry


def test_three_pictures_of_a_search_by_the_command_of_one_rank(tmp_path, monkeypatch):
    config = cheap_config()
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path / "search")
    with monkeypatch.context() as second:
        second.setenv("OMPI_COMM_WORLD_RANK", "1")
        second.setenv("OMPI_COMM_WORLD_SIZE", "2")
        assert main(["search", "--report", "--out", str(tmp_path)]) == 0
    assert not list(tmp_path.glob("search/*.png"))
    assert main(["search", "--report", "--out", str(tmp_path)]) == 0
    for name in ("convergence", "parameters", "ranks"):
        assert (tmp_path / "search" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_line_that_is_just_being_written_is_left_out(tmp_path):
    config = cheap_config(generations=2)
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"generation": 3, "cand')
    assert len(draw_search(tmp_path)) == 3


def test_nothing_searched_yet_is_told(tmp_path):
    with pytest.raises(InputError, match="nothing to draw"):
        draw_search(tmp_path)


def test_halving_where_nothing_was_judged_by_all_rows(tmp_path):
    """Where all of a generation fail by few rows none goes on, and there is nothing but these lines."""
    entry = Entry(1, 0, np.array([0.1]), Evaluation(-np.inf, np.nan, np.nan, reason="no cycle"), share=0.25)
    History(tmp_path / "history.jsonl").append([history_line(1, 0, [0.1], {"density": 0.1}, entry)])
    for path in draw_search(tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_best_and_mean_by_generation():
    lines = [
        {"generation": generation, "fitness": fitness}
        for generation, fitness in ((1, None), (2, 1.0), (2, 3.0), (3, 2.0), (3, None))
    ]
    generations, best, mean = best_so_far(lines)
    assert generations.tolist() == [1, 2, 3]
    np.testing.assert_equal(best, [np.nan, 3, 3])
    np.testing.assert_equal(mean, [np.nan, 2, 2])
