"""From a user's raw file to labels by the README's lines alone, for each kind of data."""

from __future__ import annotations

import csv
import json
import re

import own_data
import pytest
from launch import REPOSITORY

from rcdp_hpc.cli import main
from rcdp_hpc.config import Config, DataFacts, flatten, load_config, to_tree, with_kind_defaults
from rcdp_hpc.config.kind_defaults import EXAMPLE_SHAPES, KIND_PROFILES, kind_defaults
from rcdp_hpc.config.toml import toml_text
from rcdp_hpc.data.proposal import propose
from rcdp_hpc.data.sources import open_source
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.trial import MOST, trial_of

README = (REPOSITORY / "README.md").read_text()
(BLOCK,) = re.findall(r"## Your own data\n.*?```\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.partition("  #")[0].split() for line in BLOCK.splitlines() if line.startswith("rcdp ")]


@pytest.mark.parametrize("kind", own_data.KINDS)
def test_the_readme_leads_from_raw_data_to_labels(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = own_data.KINDS[kind](tmp_path)
    names = {"mine.csv": str(data.data), "new.csv": str(data.new)}
    assert [words[1] for words in COMMANDS] == ["init", "run", "run", "predict"]
    for words in COMMANDS:
        assert main([names.get(word, word) for word in words[1:]]) == 0, words
    summary = json.loads((tmp_path / "runs/mine/report/summary.json").read_text())
    assert summary["test"]["accuracy"] > 0.85
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    found = {row[0]: row[1] for row in rows[1:]}
    assert sorted(found) == sorted(data.names)
    right = sum(found[name] == label for name, label in zip(data.names, data.truth, strict=True))
    assert right >= own_data.NEW - 1
    index = json.loads((tmp_path / "runs/mine/shards/index.json").read_text())
    assert index["kind"] == kind
    assert (index["standardization"] is None) == (kind == "images")
    trial = json.loads((tmp_path / "runs/mine-trial/shards/index.json").read_text())
    assert trial["settings"]["data"]["max_samples"] > 0


@pytest.mark.parametrize("kind", own_data.KINDS)
def test_a_configuration_needs_only_data(kind, tmp_path):
    data = own_data.KINDS[kind](tmp_path)
    settings = propose(data.data).settings
    (tmp_path / "my.toml").write_text(
        "[data]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    )
    assert main(["run", str(tmp_path / "my.toml"), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    resolved = load_config(tmp_path / "run/config.toml")
    assert resolved.chosen is None
    assert resolved.readout.kind == "ridge"


def test_init_reports_facts_and_assumptions(tmp_path, capsys):
    data = own_data.table(tmp_path)
    assert main(["init", str(data.data), "--to", str(tmp_path / "my.toml")]) == 0
    said = capsys.readouterr().out
    assert "120 samples" in said
    assert "3 classes: low 60, mid 36, high 24" in said
    assert "2.5 times" in said
    assert "species" in said
    config = load_config(tmp_path / "my.toml")
    assert config.data.label_column == "species"
    assert main(["init", str(data.data), "--to", str(tmp_path / "my.toml")]) == 2


def test_a_test_file_next_to_the_training_file_is_the_test_set(tmp_path):
    data = own_data.table(tmp_path)
    rows = data.data.read_text().splitlines(keepends=True)
    (tmp_path / "plants_train.csv").write_text("".join(rows[:100]))
    (tmp_path / "plants_test.csv").write_text("".join([rows[0], *rows[100:]]))
    found = propose(tmp_path / "plants_train.csv")
    assert found.settings["test_path"] == str(tmp_path / "plants_test.csv")
    assert "plants_test.csv is the test set: its name" in found.assumed


def test_data_without_a_proposal_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        propose(tmp_path / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no data found there"):
        propose(tmp_path / "empty")


@pytest.mark.parametrize("kind", own_data.KINDS)
def test_the_profile_of_a_kind_is_its_defaults(kind, tmp_path):
    """What `rcdp init` writes, the profile, and [data] alone are resolved alike."""
    data = own_data.KINDS[kind](tmp_path).data
    assert main(["init", str(data), "--to", str(tmp_path / "my.toml")]) == 0
    text = (tmp_path / "my.toml").read_text()
    assert f"values of the profile `{KIND_PROFILES[kind]}`" in text
    proposed = load_config(tmp_path / "my.toml")
    found = open_source(proposed.data)
    (tmp_path / "bare.toml").write_text(own_data.data_section(kind, data))
    profile = load_config(KIND_PROFILES[kind], [f"data.path={data}"])
    assert profile.chosen == {"data.path", "data.source", "data.kind"}
    ways = (profile, load_config(tmp_path / "bare.toml"), proposed)
    resolved = [flatten(to_tree(with_kind_defaults(one, found.facts))) for one in ways]
    apart = {key for one in resolved[1:] for key in one | resolved[0] if one.get(key) != resolved[0].get(key)}
    assert {key for key in apart if not key.startswith("data.")} == set()


@pytest.mark.parametrize("kind", own_data.KINDS)
def test_a_printed_profile_follows_later_defaults(kind, tmp_path, capsys):
    name, shape = KIND_PROFILES[kind], EXAMPLE_SHAPES[kind][0]
    assert main(["config", name, "--set", "reservoir.nodes=77"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "printed.toml").write_text(text)
    printed = load_config(tmp_path / "printed.toml")
    assert printed.chosen == {"data.source", "data.kind", "reservoir.nodes"}
    for key, value in kind_defaults(DataFacts(kind, shape), {"reservoir.nodes": 77}).items():
        if not key.startswith("search.space."):
            assert f"\n# {key.rpartition('.')[2]} = {toml_text(value)}" in text, key
    assert "(left out: set when" not in text
    assert "# nodes = " not in text.replace("# nodes = { low", "")  # the dimension of the search has the same name


def test_a_profile_for_data_of_another_kind_is_refused(tmp_path):
    data = own_data.KINDS["table"](tmp_path).data
    with pytest.raises(InputError, match=r"data\.kind = 'series' .* use the profile of their kind"):
        open_source(load_config("series", ["data.source=csv", "data.label_column=species", f"data.path={data}"]).data)


def test_a_trial_is_no_larger_than_its_configuration():
    config = load_config("digits", ["training.epochs=2", "search.generations=0", "data.max_samples=100"])
    trial = trial_of(config)
    assert (trial.training.epochs, trial.search.generations, trial.data.max_samples) == (2, 0, 100)
    counted = trial_of(load_config("digits", ["data.class_keep_fractions=[]", f"data.class_keep_counts={[8, 4] * 5}"]))
    assert (counted.data.class_keep_counts, counted.data.class_keep_fractions) == ([], [1.0, 0.5] * 5)
    assert trial_of(load_config("mnist")).training.epochs == MOST["training.epochs"]
    waiting = Config().with_chosen(frozenset({"data.path"}))
    assert trial_of(waiting).chosen == {"data.path", "data.max_samples"}


def test_a_trial_replaces_only_earlier_trials(tmp_path, capsys):
    (tmp_path / "runs-trial").mkdir()
    (tmp_path / "runs-trial/thesis.txt").write_text("mine")
    assert main(["run", "digits", "--out", str(tmp_path / "runs"), "--trial", "--quiet"]) == 2
    assert "exists and is not a trial" in capsys.readouterr().err
    assert (tmp_path / "runs-trial/thesis.txt").exists()
