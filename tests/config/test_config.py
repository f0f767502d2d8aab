from __future__ import annotations

import contextlib
import re
import tomllib
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launch import REPOSITORY

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
from rcdp_hpc.config.choices import TABLES
from rcdp_hpc.config.choices.plain import PLAIN_TABLES
from rcdp_hpc.config.keys import flatten, key_types, marked_keys
from rcdp_hpc.config.paths import with_absolute_paths
from rcdp_hpc.config.reference import reference_page
from rcdp_hpc.config.values import items_of
from rcdp_hpc.errors import InputError
from rcdp_hpc.search.space import searched_space


def test_every_profile_loads_and_survives_a_round_trip_through_its_comments():
    assert profile_names() == [
        "cifar10",
        "cifar10-frozen",
        "cifar10-long",
        "digits",
        "image",
        "mnist",
        "mnist-convolution",
        "mnist-frozen",
        "mnist-pixels",
        "mnist-ridge",
        "paper-cifar10",
        "paper-lstm",
        "paper-mnist",
        "series",
        "table",
        "vowels",
    ]
    for name in profile_names():
        config = load_config(name)
        assert parse_config(tomllib.loads(commented_toml(config)), "again", config.chosen) == config


def test_every_key_has_a_meaning():
    text = commented_toml(Config())
    for key in known_keys():
        assert key.rpartition(".")[2] in text
    for section in Config.model_fields:
        for name, field in getattr(Config(), section).__class__.model_fields.items():
            assert field.description, f"{section}.{name}"


@pytest.mark.parametrize("name", ["paper-mnist", "paper-cifar10", "paper-lstm"])
def test_the_paper_profiles_have_the_values_of_table_2_and_the_search(name):
    config = load_config(name)
    reservoir, training, search = config.reservoir, config.training, config.search
    assert (reservoir.kind, reservoir.nodes, reservoir.activation, reservoir.leak) == ("random", 1000, "sigmoid", 1.0)
    assert (reservoir.density, reservoir.spectral_radius) == (0.1, 0.9)
    assert (training.epochs, training.batch, training.loss_target) == (250, 64, 1e-5)
    assert (config.optimizer.kind, config.optimizer.learning_rate, config.loss.kind) == ("adam", 1e-3, "eq12")
    assert (config.data.balance, config.data.smote_neighbours) == ("smote", 7)
    assert (search.optimizer, search.population, search.generations) == ("mfo", 50, 100)
    assert (search.fitness, search.evaluation, search.density_target) == ("eq5", "train", 0.1)
    assert search.density_weight > 0
    # The first candidate has the values of Table 2.
    space = searched_space(search)
    start = space.decode(space.start(config))
    table = {"nodes": 1000, "density": 0.1, "spectral_radius": 0.9, "learning_rate": 1e-3, "batch": 64}
    assert {key: pytest.approx(start[key]) for key in table} == table
    architecture = {"nodes", "layers", "states", "outputs", "hidden", "readout_layers"}
    expected = {"nodes", "readout_layers"} if name == "paper-lstm" else architecture
    assert architecture & set(space.names) == expected


def test_the_lstm_profile_has_100_components_and_128_units():
    readout = load_config("paper-lstm").readout
    assert (readout.kind, readout.outputs, readout.hidden) == ("lstm", 100, 128)


def test_cifar10_has_the_uneven_images_of_table_1():
    data = load_config("paper-cifar10").data
    assert data.class_keep_counts == [462, 213, 484, 623, 695, 558, 741, 625, 412, 525]
    assert max(data.class_keep_counts) <= 5000 * (1 - data.validation_fraction)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.populaton=3", ["search.populaton", "did you mean search.population?"]),
        ("serch.population=3", ["serch", "did you mean search?"]),
        ("training.epoch=3", ["training.epoch ", "did you mean training.epochs?"]),
        ("data.optimizer=3", ["data.optimizer ", "did you mean search.optimizer or optimizer.kind?"]),
        ("training.populaton=3", ["training.populaton ", "did you mean search.population?"]),
        ("training.epochs=-3", ["training.epochs = -3", "greater than or equal to 1"]),
        ("training.epochs=many", ["training.epochs = 'many'", "expected an integer, as in training.epochs = 250"]),
        ("training.epochs=2.5", ["training.epochs = 2.5", "expected an integer, as in"]),
        ("reservoir.leak=0,5", ["reservoir.leak = '0,5'", "decimal point: 0.5", "as in reservoir.leak = 1.0"]),
        ("optimizer.nesterov=maybe", ["optimizer.nesterov = 'maybe'", "expected true or false"]),
        ("extractor=convolution", ["extractor is a section", "extractor.kind=convolution"]),
        ("search.space.leak=3", ["search.space.leak = 3", "{ low = 0.1, high = 1.0 }"]),
        ("search.space=3", ["search.space is a section"]),
        ("data.image_size=3", ["data.image_size = [3]", "expected height and width"]),
        ("data.image_size=1,2,3", ["data.image_size = [1, 2, 3]", "must have at most 2 entries"]),
        ("readout.ridge_penalties=", ["readout.ridge_penalties = []", "must have at least 1 entries"]),
        ("data.class_keep_fractions=[0.5, much]", ["data.class_keep_fractions[1] = 'much'", "expected a number"]),
        ("data.drop_columns=[a", ["data.drop_columns=[a", "bracket is not closed"]),
        ("data.drop_columns=a,,b", ["data.drop_columns=a,,b", "an entry is empty"]),
        ("data.drop_columns='a,b", ["data.drop_columns='a,b", "the quote of 'a is not closed"]),
        ("training.lr=0.1", ["training.lr ", "did you mean optimizer.learning_rate?"]),
        ("search.space.leak={low=0.1, hihg=1}", ["search.space.leak.hihg ", "did you mean search.space.leak.high?"]),
        ("readout.kind=lsmt", ["readout.kind = 'lsmt'", "module:Class", "did you mean lstm?"]),
        ("reservoir.density=1.5", ["reservoir.density = 1.5", "less than or equal to 1"]),
        ("reservoir.leak=nan", ["reservoir.leak", "finite"]),
        ("search.space.leak={low=2,high=1}", ["search.space.leak", "must be below high"]),
        ("search.space.weight_scale={low=1,high=2}", ["needs reservoir.scaling = 'weight_scale'"]),
        ("data.source=tarot", ["data.source = 'tarot'", "digits"]),
        ("data.source=CSV", ["data.source = 'CSV'", "did you mean csv?"]),
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


def test_a_key_without_its_section_is_guessed():
    with pytest.raises(InputError, match=r"did you mean search\.epochs or training\.epochs or pruning\.epochs\?"):
        load_config("digits", ["epochs=3"])


def test_a_value_may_be_toml_or_a_bare_string():
    config = load_config(
        "digits", ["data.path=../some where", "training.epochs=7", "data.class_keep_fractions=[0.5, 1]"]
    )
    assert (config.data.path, config.training.epochs, config.data.class_keep_fractions) == (
        "../some where",
        7,
        [0.5, 1.0],
    )


@pytest.mark.parametrize("text", ["3", "01", "3.10", "true", "1e3", "nan", "2024-01-01", "a=b", "[x]", "it's", "é", ""])
def test_a_key_of_text_takes_what_is_typed(text):
    for typed in (text, f" {text} ", f'"{text}"'):
        assert load_config("digits", [f"data.label_column={typed}"]).data.label_column == text


@pytest.mark.parametrize(("typed", "delimiter"), [("\t", "\t"), (r"\t", "\t"), (" ", " "), ('";"', ";"), (",", ",")])
def test_a_delimiter_may_be_a_blank(typed, delimiter):
    assert load_config("digits", [f"data.delimiter={typed}"]).data.delimiter == delimiter


@pytest.mark.parametrize(
    ("typed", "columns"),
    [
        ("[1, 02, 3.10, true]", ["1", "02", "3.10", "true"]),
        ("1,2", ["1", "2"]),
        ("one", ["one"]),
        ("[ a b , c ]", ["a b", "c"]),
        ("""['a, b', "c\\"d"]""", ["a, b", 'c"d']),
        ("a,", ["a"]),
        ("[]", []),
        ("", []),
    ],
)
def test_a_list_of_texts_needs_neither_brackets_nor_quotes(typed, columns):
    assert load_config("digits", [f"data.category_columns={typed}"]).data.category_columns == columns


def test_other_lists_need_no_brackets_either():
    config = load_config(
        "digits", ["data.class_keep_fractions=0.5,1", "data.image_size=8, 9", "search.improvements=levy"]
    )
    assert (config.data.class_keep_fractions, config.data.image_size, config.search.improvements) == (
        [0.5, 1],
        [8, 9],
        ["levy"],
    )
    choices = load_config("digits", ["search.space.activation.choices=tanh,relu"]).search.space.activation.choices
    assert choices == ["tanh", "relu"]


def test_in_a_file_a_number_names_a_column_too(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text("[data]\nlabel_column = 3\nx_name = 3.10\ny_name = true\ncategory_columns = [1, 2.50, 'c']\n")
    data = load_config(path).data
    assert (data.label_column, data.x_name, data.y_name) == ("3", "3.10", "true")
    assert data.category_columns == ["1", "2.50", "c"]


def test_numbers_of_a_file_stay_numbers(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(
        "[data]\nclass_keep_fractions = [0.50]\n[reservoir]\nleak = 0.30\n[search.space]\nleak={low=0.1,high=0.90}\n"
    )
    config = load_config(path)
    assert (config.data.class_keep_fractions, config.reservoir.leak, config.search.space.leak.high) == ([0.5], 0.3, 0.9)
    assert type(config.reservoir.leak) is type(config.data.class_keep_fractions[0]) is float


def test_a_missing_profile_is_refused_with_the_ones_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=", ".join(profile_names())):
        load_config("nope")
    with pytest.raises(InputError, match=r"did you mean mnist\?"):
        load_config("mnits")
    (tmp_path / "mine.toml").write_text("")
    with pytest.raises(InputError, match=r"did you mean mine\.toml\?"):
        load_config("mine")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[data\n", ["not valid TOML", "line 1"]),
        (b"[data]\npath = /my data\n", ["not valid TOML", "line 2", "path = '/my data'"]),
        (b"[data]\nstage_in = True\n", ["line 2", "true or false in small letters"]),
        (b'[data]\npath = "C:\\data"\n', ["line 2", "in single quotes"]),
        (
            b"[data]\nclass_keep_fractions = 0.5\n",
            ["data.class_keep_fractions = 0.5", "expected a list, as in data.class_keep_fractions = [0.5]"],
        ),
        (b'[data]\r\npath = "caf\xe9"\r\n', ["line 2 is not UTF-8", "café", "iconv -f cp1252"]),
        (b"[data]\0\xff\n", ["not a text file", "rcdp init DATA"]),
    ],
)
def test_a_file_that_is_no_configuration_is_named_with_its_line(content, words, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_config(path)
    for word in ["bad.toml", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("name", ["table.csv", "folder", "run"])
def test_data_and_run_directories_are_no_configurations(name, tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.toml").write_text("")
    with pytest.raises(InputError, match=r"use --out .*run" if name == "run" else "rcdp init DATA"):
        load_config(tmp_path / name)


@pytest.mark.parametrize(
    ("encoding", "end"), [("utf-8-sig", "\r\n"), ("utf-16", "\r\n"), ("utf-16-be", "\n"), ("utf-8", "\n")]
)
def test_byte_order_marks_and_windows_line_ends_are_read(encoding, end, tmp_path):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    path = tmp_path / "my.toml"
    path.write_bytes(f'{mark}[data]{end}path = "é"{end}'.encode(encoding))
    assert load_config(path).data.path == "é"


def test_a_configuration_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my.toml").write_text("[training]\nepochs = 3\n")
    assert load_config("~/my.toml").training.epochs == 3


def test_every_path_of_a_configuration_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    keys = marked_keys("path")
    assert {"data.path", "data.test_path", "reservoir.matrices"} <= set(keys)
    for typed, absolute in (("~/a", tmp_path / "home/a"), ("b/../c", tmp_path / "b/../c"), ("/d", "/d"), ("", "")):
        config = with_absolute_paths(
            load_config("digits", ["search.generations=0", *(f"{key}={typed}" for key in keys)])
        )
        flat = flatten(to_tree(config))
        assert {"".join(flat[key]) for key in keys} == {str(absolute)}


def test_a_list_of_paths_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(load_config("digits", ["loss.teacher=[a, /b/model.pt]"]))
    assert config.loss.teacher == [str(tmp_path / "a"), "/b/model.pt"]


def test_a_key_that_sounds_like_a_path_is_marked_as_one():
    named = {key for key in known_keys() if key.rpartition(".")[2].endswith(("path", "file", "folder", "matrices"))}
    assert named <= set(marked_keys("path"))


def test_every_choice_has_its_meaning_and_no_other_value_has():
    literals = {}
    for key, kind in key_types().items():
        inner = items_of(kind) or kind
        if get_origin(inner) is Literal:
            literals[key] = list(get_args(inner))
    plain = {table.key: list(table.meanings()) for table in PLAIN_TABLES}
    assert plain == literals
    assert all(key_types()[table.key] in (str, list[str]) for table in TABLES.values() if table not in PLAIN_TABLES)
    for key, table in TABLES.items():
        for value, meaning in table.meanings().items():
            assert len(meaning) > 3, f"{key} = {value}"


@pytest.mark.parametrize("name", ["digits", "paper-cifar10"])
def test_the_comments_show_every_choice_default_and_bound_in_80_columns(name):
    text = commented_toml(load_config(name))
    assert max(len(line) for line in text.splitlines() if line.startswith("#")) <= 80
    words = " ".join(line.removeprefix("#").strip() for line in text.splitlines())
    words = re.sub(r"\s+", " ", words)
    for key, table in TABLES.items():
        for value, meaning in table.meanings().items():
            assert f"{value} {meaning}" in words, f"{key} = {value}"
    # Defaults are shown where the profile has another value, too.
    assert "largest number of epochs (paper: 250) (>= 1; default 250)" in words
    assert "nearest neighbours k of SMOTE (paper: 7) (>= 1; <= 1000; default 7)" in words


def test_the_reference_page_is_the_one_that_the_sections_give():
    page = (REPOSITORY / "docs/configuration.md").read_text()
    assert page == reference_page(), "run `python -m rcdp_hpc.config.reference > docs/configuration.md`"
    for key in known_keys():
        assert f"- **`{key.rpartition('.')[2]}`** (" in page


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


def test_a_key_that_an_earlier_version_lacked_may_have_its_default():
    recorded = to_tree(load_config("digits"))
    del recorded["pruning"], recorded["training"]["weight_bits"]
    refuse_other_settings("last.pt", recorded, to_tree(load_config("digits")), "training")
    for changes, message in (
        (["training.weight_bits=8"], r"training\.weight_bits \(not set -> 8\)"),
        (["search.space.nodes.low=100", "search.space.nodes.high=200"], r"search\.space\.nodes"),
    ):
        changed = to_tree(load_config("digits", changes))
        with pytest.raises(InputError, match=message):
            refuse_other_settings("last.pt", recorded, changed, "training")


@given(st.text(max_size=40))
def test_no_override_crashes(text):
    with contextlib.suppress(InputError):
        load_config("digits", [text])
