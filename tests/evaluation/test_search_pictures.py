from __future__ import annotations

import numpy as np
import pytest
from search.fake_fitness import CheapFitness, cheap_config

from rcdp_hpc.cli import main
from rcdp_hpc.errors import InputError
from rcdp_hpc.evaluation import search_pictures
from rcdp_hpc.evaluation.search_pictures import best_so_far, draw_search
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.records.archive import Entry
from rcdp_hpc.search.records.history import History, HistoryLine


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


def test_a_search_without_a_generation_is_refused(tmp_path):
    with pytest.raises(InputError, match="nothing can be drawn"):
        draw_search(tmp_path)


def test_halving_without_a_candidate_evaluated_on_all_rows(tmp_path):
    """If all candidates of a generation fail on few rows, no candidate is evaluated on all rows."""
    entry = Entry(1, 0, np.array([0.1]), Evaluation(-np.inf, np.nan, np.nan, reason="no cycle"), share=0.25)
    History(tmp_path / "history.jsonl").append([HistoryLine.of(1, 0, [0.1], {"density": 0.1}, entry)])
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


@pytest.fixture
def figures(monkeypatch):
    kept = []
    save = search_pictures.save_figure

    def keep(figure, path):
        save(figure, path)
        kept.append(figure)

    monkeypatch.setattr(search_pictures, "save_figure", keep)
    return kept


def test_the_winner_is_marked_and_axes_have_the_scale_that_was_searched(tmp_path, figures):
    space = {
        "density": {"low": 0.01, "high": 0.5},
        "input_scaling": {"low": 0.5, "high": 2.0, "log": True},
        "leak": {"low": 0.1, "high": 0.8},
        "activation": {"choices": ["tanh", "sigmoid"]},
    }
    config = cheap_config(generations=3, space=space)
    run = RunDirectory(tmp_path)
    run.write_config(config)
    best = run_search(config, SingleProcess(), CheapFitness(config), run.search)
    draw_search(run.search)
    convergence, parameters, ranks = figures
    (star,) = [line for line in convergence.axes[0].lines if line.get_marker() == "*"]
    assert star.get_xydata().tolist() == [[best.generation, best.fitness]]
    for axes, name in zip(parameters.axes, space, strict=False):
        value = ["tanh", "sigmoid"].index(best.values[name]) if name == "activation" else best.values[name]
        (star,) = [line for line in axes.lines if line.get_marker() == "*"]
        assert star.get_xydata().tolist() == [[value, best.fitness]]
        assert axes.get_xscale() == ("log" if name == "input_scaling" else "linear")
    assert [text.get_text() for text in parameters.axes[3].get_xticklabels()] == ["tanh", "sigmoid"]
    for axes in (convergence.axes[0], *ranks.axes):
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
    for figure in figures:
        for legend in figure.legends:
            assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
