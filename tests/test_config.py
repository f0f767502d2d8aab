from __future__ import annotations

import contextlib
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcdp_hpc.config import (
    Config,
    commented_toml,
    differing_keys,
    known_keys,
    load_config,
    may_change,
    parse_config,
    profile_names,
    refuse_other_settings,
    to_tree,
)
from rcdp_hpc.errors import InputError


def test_every_profile_loads_and_survives_a_round_trip_through_its_comments():
    assert profile_names() == [
        "cifar10",
        "cifar10-long",
        "digits",
        "mnist",
        "mnist-convolution",
        "mnist-frozen",
        "mnist-ridge",
        "paper-cifar10",
        "paper-mnist",
        "vowels",
    ]
    for name in profile_names():
        config = load_config(name)
        assert parse_config(tomllib.loads(commented_toml(config)), "again") == config


def test_every_key_has_a_meaning():
    text = commented_toml(Config())
    for key in known_keys():
        assert key.rpartition(".")[2] in text
    for section in Config.model_fields:
        for name, field in getattr(Config(), section).__class__.model_fields.items():
            assert field.description, f"{section}.{name}"


@pytest.mark.parametrize("name", ["paper-mnist", "paper-cifar10"])
def test_the_paper_profiles_hold_table_2(name):
    config = load_config(name)
    reservoir, training = config.reservoir, config.training
    assert (reservoir.nodes, reservoir.activation, reservoir.density) == (1000, "sigmoid", 0.1)
    assert (reservoir.spectral_radius, reservoir.leak) == (0.9, 1.0)
    assert (training.learning_rate, training.batch, training.epochs, training.loss_target) == (1e-3, 64, 250, 1e-5)


def test_the_paper_profiles_hold_the_search_of_table_2_and_the_images_of_table_1():
    search, data = load_config("paper-mnist").search, load_config("paper-mnist").data
    assert (search.population, search.generations, data.smote_neighbours) == (50, 100, 7)
    data = load_config("paper-cifar10").data
    training_images = 5000 * (1 - data.validation_fraction)
    assert [round(training_images * share) for share in data.keep] == [300] * 10


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.populaton=3", ["search.populaton", "nearest known one is search.population"]),
        ("serch.population=3", ["serch", "nearest known one is search"]),
        ("training.epoch=3", ["training.epoch ", "nearest known one is training.epochs"]),
        ("training.epochs=-3", ["training.epochs = -3", "greater than or equal to 1"]),
        ("training.epochs=many", ["training.epochs = 'many'", "integer"]),
        ("reservoir.density=1.5", ["reservoir.density = 1.5", "less than or equal to 1"]),
        ("reservoir.leak=nan", ["reservoir.leak", "finite"]),
        ("search.space.leak={low=2,high=1}", ["search.space.leak", "must be below high"]),
        ("search.space.weight_scale={low=1,high=2}", ["needs reservoir.scaling = 'weight_scale'"]),
        ("data.source=tarot", ["data.source = 'tarot'", "digits"]),
    ],
)
def test_wrong_settings_are_named(override, words):
    with pytest.raises(InputError) as error:
        load_config("digits", [override])
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("override", ["epochs=3", "training.epochs", "=3", ".=3"])
def test_a_setting_of_the_wrong_form_is_refused(override):
    with pytest.raises(InputError, match=r"expected section\.key=value"):
        load_config("digits", [override])


def test_a_value_may_be_toml_or_a_bare_string():
    config = load_config("digits", ["data.path=../some where", "training.epochs=7", "data.keep=[0.5, 1]"])
    assert (config.data.path, config.training.epochs, config.data.keep) == ("../some where", 7, [0.5, 1.0])


def test_a_missing_profile_is_refused_with_the_ones_there_are():
    with pytest.raises(InputError, match=", ".join(profile_names())):
        load_config("nope")


def test_a_file_that_is_no_toml_is_named(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[data\n")
    with pytest.raises(InputError, match=r"bad\.toml: not valid TOML"):
        load_config(path)


def test_differing_keys_are_found_at_any_depth():
    one = to_tree(load_config("digits"))
    other = to_tree(load_config("digits", ["run.seed=9", "search.space.leak.high=0.9", "training.epochs=3"]))
    assert differing_keys(one, other) == ["run.seed", "search.space.leak.high", "training.epochs"]


def test_keys_that_may_change_on_resume():
    assert may_change("training.epochs")
    assert may_change("data.path")
    assert not may_change("training.batch")
    assert not may_change("search.space.leak.high")


def test_results_of_other_settings_are_refused_with_the_keys():
    recorded = {"training": {"batch": 1, "epochs": 3}}
    with pytest.raises(InputError) as error:
        refuse_other_settings("last.pt", recorded, {"training": {"batch": 2, "epochs": 4}}, "training")
    message = str(error.value)
    assert "last.pt was made with other settings: training.batch (1 -> 2)." in message
    assert "training.epochs" in message
    assert "--restart" in message


@given(st.text(max_size=40))
def test_no_override_crashes(text):
    with contextlib.suppress(InputError):
        load_config("digits", [text])
