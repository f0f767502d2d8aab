"""Job arrays (`--array`): seeds, folds and configurations."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from launch import rcdp, run_ranks

from rcdp_hpc.cluster.array import Array, make_array
from rcdp_hpc.config import Config, load_config
from rcdp_hpc.errors import InputError


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A folder with two configurations of different reservoirs."""
    for name, nodes in (("small", 50), ("a large one", 200)):
        (tmp_path / f"{name}.toml").write_text(f"[data]\nsource = 'digits'\n[reservoir]\nnodes = {nodes}\n")
    (tmp_path / "notes.txt").write_text("no configuration")
    return tmp_path


def load(name: str | None) -> Config:
    return load_config(name or "digits")


def array(text: str) -> Array:
    return make_array(text, load)


def test_seeds_are_counted_from_one():
    found = array("seeds=10")
    assert (found.stage, found.configs) == ("seeds", ())
    assert found.names[0] == "seed-1"
    assert len(found.names) == 10


def test_folds_have_separate_shards():
    found = array("folds=3")
    assert (found.stage, found.names) == ("folds", ("fold-1", "fold-2", "fold-3"))
    assert (found.shared.data.folds, found.shared.data.fold) == (3, 0)
    with pytest.raises(InputError, match=r"folds = 1 leaves nothing"):
        array("folds=1")


@pytest.mark.parametrize(
    "text", ["", "seeds", "seeds=0", "seeds=-1", "seeds=99999", "seeds=3;x", "configs=", "folds=0", "runs=3"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(InputError, match=r"expected seeds=N .* configs=FOLDER .* or cells"):
        array(text)


def test_configurations_are_the_files_of_a_folder_or_of_a_pattern(grid):
    found = array(f"configs={grid}")
    assert found.names == ("config-a large one", "config-small")
    assert [config.reservoir.nodes for config in found.configs] == [200, 50]
    assert array(f"configs={grid}/s*.toml").names == ("config-small",)


def test_the_shards_of_an_array_do_not_depend_on_its_seeds(grid):
    config = make_array("seeds=2", lambda name: load_config("digits", ["run.seed=7"])).shared
    assert config.shard_seed == 7
    assert config.model_copy(update={"run": config.run.model_copy(update={"seed": 8})}).shard_seed == 7
    assert {config.data.seed for config in array(f"configs={grid}").configs} == {load(None).shard_seed}


def test_configurations_whose_shards_differ_are_refused(grid):
    other = grid / "small.toml"
    other.write_text(other.read_text() + "[run]\nseed = 4\n")
    with pytest.raises(InputError, match=r"a large one.toml and .*small.toml cannot share shards: run.seed is 1 .* 4"):
        array(f"configs={grid}")
    # Settings that may change on resume do not change shards.
    other.write_text("[data]\nsource = 'digits'\nmemory_budget = 100\n")
    assert len(array(f"configs={grid}").names) == 2


def test_no_file_and_two_files_of_one_name_are_refused(grid):
    with pytest.raises(InputError, match="no TOML file matches"):
        array(f"configs={grid}/nowhere")
    (grid / "more").mkdir()
    os.link(grid / "small.toml", grid / "more/small.toml")
    with pytest.raises(InputError, match="would share the run directory config-small"):
        array(f"configs={grid}/**/*.toml")


def test_a_configuration_together_with_a_folder_of_them_is_refused(grid):
    submit = partial(run_ranks, 0, timeout=60)
    options = ("--out", str(grid / "run"), "--array", f"configs={grid}", "--dry-run")
    refused = submit(rcdp("submit", "digits", *options))
    assert refused.returncode == 2
    assert "leave out digits" in refused.stdout
    shown = submit(rcdp("submit", *options, "--set", "training.epochs=3"))
    assert shown.returncode == 0
    assert "'config-a large one'" in shown.stdout
    assert "--array=1-2" in shown.stdout
    assert not (grid / "run").exists()
