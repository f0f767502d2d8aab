"""Selection before search: every state set once, by the search loop."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from launch import rcdp, run_ranks
from whole_runs import flags, series_file

from rcdp_hpc.config import ReservoirSection, load_config
from rcdp_hpc.config.load import parse_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.search.checks import checked_space
from rcdp_hpc.search.optimizers.grid import Grid
from rcdp_hpc.search.selection import selection_config
from rcdp_hpc.search.space import searched_space, with_values
from rcdp_hpc.search.state_sets import STATE_SETS, sets_for

TWO = ["values/spread", "scaled-differences/long"]
SMALL = [
    "reservoir.nodes=12", "reservoir.kernel=dense-fp32", "run.progress=false", "training.threads=1",
    "search.method=select", "search.state_sets=" + ",".join(TWO),
]  # fmt: skip


@pytest.mark.parametrize("name", STATE_SETS)
def test_every_set_is_accepted_by_the_reservoir(name):
    settings = STATE_SETS[name].settings
    accepted = ReservoirSection(**settings)
    for key, value in settings.items():
        # The search inserts the settings without validation: they must have the types of the section.
        assert getattr(accepted, key) == value
        assert type(getattr(accepted, key)) is type(value)


@pytest.mark.parametrize("kind", ["table", "series", "images"])
def test_every_kind_has_a_dozen_sets_that_differ(kind):
    names = sets_for(kind)
    assert 12 <= len(names) <= 40
    assert len({json.dumps(STATE_SETS[name].settings, sort_keys=True) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["values/spread", "nonsense"], "nonsense: no set of this name for series"),
        (["values/spread", "inputs-0.5/bias-1"], "inputs-0.5/bias-1: no set of this name for series"),
        (["values/spread"], "two or more different names"),
        (["values/spread", "values/spread"], "two or more different names"),
    ],
)
def test_wrong_names_of_sets_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        sets_for("series", names)


def test_a_grid_has_every_combination_once():
    grid = Grid([-0.5, -0.5], [1.5, 2.5], population=6, generations=1, seed=3)
    assert grid.ask().tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    grid.tell([3, 2, 5, 1, 4, 6])
    assert grid.done
    assert grid.best()[0].tolist() == [1, 0]
    with pytest.raises(ValueError, match="a grid of 6 positions"):
        Grid([-0.5, -0.5], [1.5, 2.5], population=5, generations=1, seed=3)


def test_a_set_has_its_settings_and_a_searched_value_replaces_one():
    config = parse_config({"data": {"source": "ts"}}, "here")
    reservoir = with_values(config, {"state_set": "values/spread", "spectral_radius": 0.7}).reservoir
    settings = STATE_SETS["values/spread"].settings
    assert reservoir.spectral_radius == 0.7
    assert reservoir.leak_low == settings["leak_low"]
    assert reservoir.reduction == settings["reduction"]
    assert reservoir.nodes == config.reservoir.nodes


def test_the_selection_is_a_search_over_names():
    config = parse_config({"data": {"source": "ts"}, "search": {"method": "select", "generations": 0}}, "here")
    sets = selection_config(config, "series")
    names = sets_for("series")
    space = searched_space(sets.search)
    assert space.names == ("state_set",)
    assert [space.decode([place])["state_set"] for place in range(len(names))] == names
    assert (sets.search.population, sets.search.generations) == (len(names), 1)


def test_an_unknown_set_in_a_space_is_refused():
    config = parse_config({"search": {"space": {"state_set": {"choices": ["values/spread", "other"]}}}}, "here")
    with pytest.raises(InputError, match="other is not a list of names of state sets"):
        checked_space(config)


@pytest.fixture
def waves(tmp_path):
    """Return settings of a run on small series."""
    path = series_file(tmp_path / "waves.ts", 60, seed=1)
    return ["data.source=ts", f"data.path={path}", *SMALL]


def winner(folder):
    return tomllib.loads((folder / "search/best.toml").read_text())


def history(folder, name="search/history.jsonl"):
    lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


def test_the_best_set_is_trained_and_predicts(waves, tmp_path):
    config = load_config("series", [*waves, "search.generations=0"])
    result = run_stages(("prepare", "search", "train", "evaluate"), config, tmp_path / "run")
    best = winner(tmp_path / "run")
    lines = history(tmp_path / "run")
    assert [line["values"]["state_set"] for line in lines] == TWO
    assert best["values"]["state_set"] == max(lines, key=lambda line: line["fitness"])["values"]["state_set"]
    assert result["evaluate"]["samples"] == 12


def test_the_optimiser_starts_from_the_best_set(waves, tmp_path):
    changes = ["search.generations=1", "search.population=3", "search.optimizer=random"]
    config = load_config("series", [*waves, *changes])
    run_stages(("prepare", "search", "train"), config, tmp_path / "run")
    selected = history(tmp_path / "run", "search/select/history.jsonl")
    best = winner(tmp_path / "run")["values"]
    assert best["state_set"] == max(selected, key=lambda line: line["fitness"])["values"]["state_set"]
    assert set(best) > {"state_set", "spectral_radius"}
    again = run_stages(("search",), config, tmp_path / "run")
    assert again["search"]["values"] == best


@pytest.mark.mpi
def test_any_number_of_ranks_selects_the_same(waves, tmp_path):
    results = []
    settings = [*waves, "search.generations=0"]
    run_stages(("prepare",), load_config("series", settings), tmp_path / "run")
    for ranks in (1, 3):
        out = Path(shutil.copytree(tmp_path / "run", tmp_path / f"run-{ranks}"))
        done = run_ranks(ranks, rcdp("search", "series", "--out", str(out), *flags(*settings)), timeout=120)
        assert done.returncode == 0, done.stdout
        results.append((history(out), winner(out)["values"]))
    assert results[0] == results[1]
    assert np.isfinite([line["fitness"] for line in results[0][0]]).all()
