from __future__ import annotations

import numpy as np
import pytest
from search.cheap import CheapFitness, cheap_config

from rcdp_hpc.cli import main
from rcdp_hpc.errors import InputError
from rcdp_hpc.evaluation.search_pictures import best_so_far, draw_search
from rcdp_hpc.runtime.comm import SingleProcess
from rcdp_hpc.search.driver import run_search


def test_three_pictures_of_a_search_by_the_command(tmp_path, capsys):
    config = cheap_config()
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path / "search")
    assert main(["search", "--report", "--out", str(tmp_path)]) == 0
    for name in ("convergence", "parameters", "ranks"):
        assert (tmp_path / "search" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_searched_yet_is_told(tmp_path):
    with pytest.raises(InputError, match="nothing to draw"):
        draw_search(tmp_path)


def test_best_and_mean_by_generation():
    lines = [
        {"generation": generation, "fitness": fitness}
        for generation, fitness in ((1, None), (2, 1.0), (2, 3.0), (3, 2.0), (3, None))
    ]
    generations, best, mean = best_so_far(lines)
    assert generations.tolist() == [1, 2, 3]
    np.testing.assert_equal(best, [np.nan, 3, 3])
    np.testing.assert_equal(mean, [np.nan, 2, 2])
