"""A shipped profile, or a copy of it, used for other data."""

from pathlib import Path

import pytest

from rcdp_hpc.config import commented_toml, load_config


@pytest.fixture(params=["profile", "copy"])
def digits(request, tmp_path):
    if request.param == "profile":
        return "digits"
    (tmp_path / "my.toml").write_text(commented_toml(load_config("digits")))
    return tmp_path / "my.toml"


def test_what_is_for_the_profiles_own_data_is_left_out(digits):
    config = load_config(digits, ["data.source=csv", "data.path=t.csv"])
    assert config.data.class_keep_fractions == []
    assert (config.reservoir.sequence, config.reservoir.states) == ("rows", 1)
    assert config.reservoir.nodes == 400


def test_its_own_data_keep_it(digits):
    assert load_config(digits).reservoir.sequence == "both"
    assert load_config(digits, ["data.source = 'digits'"]).data.class_keep_fractions != []


def test_what_the_user_sets_stays(digits):
    config = load_config(digits, ["data.source=npz", "reservoir.states=3", "reservoir.sequence=columns"])
    assert (config.reservoir.sequence, config.reservoir.states) == ("columns", 3)


def test_a_value_of_the_users_own_file_stays(tmp_path):
    path = tmp_path / "my.toml"
    Path(path).write_text(
        '[data]\nsource = "digits"\nclass_keep_fractions = [0.5]\n[reservoir]\nsequence = "both"\nstates = 2\n'
    )
    config = load_config(path, ["data.source=npz"])
    assert config.data.class_keep_fractions == [0.5]
    assert (config.reservoir.sequence, config.reservoir.states) == ("rows", 2)
