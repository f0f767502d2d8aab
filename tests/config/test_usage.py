"""Keys that only some choices use."""

from __future__ import annotations

import pytest

from rcdp_hpc.config import DataFacts, load_config, with_kind_defaults
from rcdp_hpc.config.choices import TABLES
from rcdp_hpc.config.keys import known_keys
from rcdp_hpc.config.usage import usage_note


def test_choices_use_keys_that_exist():
    assert {key for table in TABLES.values() for choice in table for key in choice.keys} <= set(known_keys())


@pytest.mark.parametrize(
    ("key", "note"),
    [
        ("data.delimiter", "csv, series_folder"),
        ("reservoir.jump", "topology = cycle-jumps"),
        ("reservoir.piece_size", "sequence = patches, windows"),
        ("search.improvements", "optimizer = mfo"),
        ("training.epochs", ""),
    ],
)
def test_a_note_names_the_choices_that_use_a_key(key, note):
    assert usage_note(key) == note


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["reservoir.jump=20"], "reservoir.jump = 20 has no effect; it is used with reservoir.topology = cycle-jumps"),
        (
            ["data.delimiter=;"],
            "data.delimiter = ';' has no effect; it is used with data.source = csv or series_folder",
        ),
        (
            ["reservoir.reduction=mean", "reservoir.segments=7"],
            "segments = 7 has no effect; it is used with reservoir.reduction = segments",
        ),
    ],
)
def test_a_setting_without_effect_is_reported(settings, message, caplog):
    load_config("digits", settings)
    assert message in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        ["reservoir.topology=cycle-jumps", "reservoir.jump=20", "search.generations=0"],
        ["reservoir.jump=10"],  # the default
        ["reservoir.reduction=mean,segments", "reservoir.segments=7"],
        ["data.source=my_readers:Reader", "data.path=x", "data.delimiter=;"],  # its keys are not known
    ],
)
def test_a_setting_with_an_effect_is_not_reported(settings, caplog):
    load_config("digits", settings)
    assert "has no effect" not in caplog.text


def test_a_file_is_judged_with_the_defaults_of_its_kind_of_data(tmp_path, caplog):
    path = tmp_path / "my.toml"
    path.write_text('[data]\nsource = "npz"\npath = "x.npz"\nlabel_column = "y"\n[reservoir]\nsegments = 9\n')
    config = load_config(path)
    assert "has no effect" not in caplog.text
    with_kind_defaults(config, DataFacts("series", (100, 3)))
    assert "data.label_column = 'y' has no effect; it is used with data.source = arff, parquet or csv" in caplog.text
    assert "reservoir.segments = 9 has no effect" in caplog.text
