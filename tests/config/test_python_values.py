"""Configurations from dicts and keyword settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.errors import InputError


def test_a_dict_is_read_like_a_file(tmp_path):
    file = tmp_path / "my.toml"
    file.write_text('[data]\npath = "a.csv"\nlabel_column = 3\n[search.space]\nleak = { low = 0.1, high = 1.0 }\n')
    tree = {"data": {"path": Path("a.csv"), "label_column": 3}, "search": {"space": {"leak": {"low": 0.1, "high": 1}}}}
    assert load_config(tree) == load_config(file)
    assert load_config(tree).chosen == load_config(file).chosen
    assert tree["data"]["path"] == Path("a.csv")


def test_keyword_settings_equal_overrides():
    keywords = load_config(
        "digits", training={"epochs": np.int64(7)}, run={"seed": 4}, search={"improvements": ("levy", "restart")}
    )
    assert keywords == load_config("digits", ["training.epochs=7", "run.seed=4", "search.improvements=levy,restart"])
    assert load_config("digits", ["run.seed=5"], run={"seed": 4}).run.seed == 5


def test_a_range_is_replaced_whole():
    config = load_config("digits", search={"space": {"leak": {"choices": [0.5, 1.0]}}})
    assert config.search.space.leak.choices == [0.5, 1.0]


def test_other_data_leave_out_the_values_of_the_demonstration():
    changed = load_config("digits", data={"source": "csv", "path": "a.csv"})
    assert changed == load_config("digits", ["data.source=csv", "data.path=a.csv"])
    assert changed.data.class_keep_fractions == []


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"dta": {}}, "dta"),
        ({"data": {"pth": "x"}}, "pth"),
        ({"training": 5}, "training"),
        ({"training": {"epochs": "many"}}, "epochs"),
        ({"data": {3: 4}}, "the key 3 is not text"),
        ({"data.path": "x"}, "data.path"),
        ({"training": {"epochs": object()}}, "epochs"),
    ],
)
def test_bad_settings_are_refused(tree, message):
    with pytest.raises(InputError, match=message):
        load_config(tree)
    with pytest.raises(InputError, match=message):
        load_config("digits", **tree)


def test_a_dict_that_holds_itself_is_refused():
    tree: dict = {}
    tree["data"] = tree
    with pytest.raises(InputError, match="nested"):
        load_config(tree)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "a configuration was given as a NoneType: expected a dict"),
        (([("a", 1)],), "a configuration was given as a list"),
        (("digits", "training.epochs=3"), r"expected a list, as in \['training.epochs=3'\]"),
        (
            ({"training.epochs": 3},),
            r"training.epochs is a key of the section training: \{'training': \{'epochs': ...\}\}",
        ),
    ],
)
def test_wrong_forms_of_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        load_config(*arguments)


@pytest.mark.parametrize("path", [None, 5, ["runs"]])
def test_a_path_is_text_or_a_path(path):
    with pytest.raises(InputError, match="a path was given as a"):
        absolute_path(path)


@pytest.mark.parametrize("key", ["training.epochs", "data.test_fraction", "data.image_channels"])
def test_true_is_not_a_number(key, tmp_path):
    section, _, name = key.partition(".")
    (tmp_path / "my.toml").write_text(f"[{section}]\n{name} = true\n")
    for arguments in (({section: {name: True}},), ({}, [f"{key}=true"]), (tmp_path / "my.toml",)):
        with pytest.raises(InputError, match=f"{key} = 'true': expected"):
            load_config(*arguments)
    assert load_config({"training": {"baseline": True}}).training.baseline is True
