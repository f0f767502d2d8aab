"""Configurations of every other form: one message, exit code 2, and values that are taken literally."""

from __future__ import annotations

import os

import pytest

from rcdp_hpc.cli.commands import main
from rcdp_hpc.config import commented_toml, load_config
from rcdp_hpc.config.paths import with_absolute_paths
from rcdp_hpc.config.values import setting_value
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.text import plain_lines

DEEP = 30_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data.path = " + "[" * DEEP + "]" * DEEP, "nested more than 20 deep"),
        ("data.path = " + "{a=" * 3000 + "1" + "}" * 3000, "nested more than 20 deep"),
        ("\n[" + ".".join(["a"] * DEEP) + "]\nx = 1", r"nested more than 20 deep \(at line 2\)"),
        ("data." + ".".join(["a"] * DEEP) + " = 1", r"nested more than 20 deep \(at line 1\)"),
        ("\n".join(f"[data{'.a' * depth}]" for depth in range(25)), "nested more than 20 deep"),
        ("[run]\nseed = " + "9" * 5000, r"too many digits \(at line 2\)"),
        ("run.seed = 0x" + "f" * 20_000, "too many digits"),
        ("data = 1", "data = 1: is a section"),
        ("data = 'x'", "data = 'x': is a section"),
        ("reservoir = []", "reservoir = .*is a section"),
        ("[[data]]\nx = 1", "is a section"),
        ("[run]\nseed = 1\n[run]\nseed = 2", "line 3"),
        ("run.seed = 1\nrun.seed = 2", "line 2"),
        ("run.seed = 1979-05-27", "run.seed = "),
        ("optimizer.learning_rate = nan", "optimizer.learning_rate = nan"),
        ("optimizer.learning_rate = 1e999", "optimizer.learning_rate = inf"),
        ("run.progress = '" + "x" * 100_000 + "'", r"x\.\.\. \(100002 characters\): expected true or false"),
        ("x=" * DEEP, "not valid TOML"),
        ("[run]\n'\x1b[2J' = 1", "not valid TOML"),
        ('[run]\n"\\u001b[2J\\nrcdp: error: x" = 1', "is not a known key"),
        ("\0", "not a text file|not valid TOML"),
    ],
)
def test_forms_that_are_refused(text, words, tmp_path, capsys):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert main(["config", str(path)]) == 2
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1
    assert plain_lines(shown) == shown


@pytest.mark.parametrize(
    "setting", ["data." + "a." * 5000 + "b=1", "run.seed=" + "9" * 5000, "run.seed=1\nx=2", "run.seed=1#2"]
)
def test_settings_that_are_refused(setting):
    with pytest.raises(InputError) as caught:
        load_config("digits", [setting])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["$HOME", "$(touch x)", "`x`", "%(x)s", "{0}", "%j", "a=b", "-x", "100%", "~"])
def test_names_are_taken_literally(name):
    config = load_config("digits", [f"data.label_column={name}", f"data.drop_columns=['{name}']"])
    assert config.data.label_column == name
    assert config.data.drop_columns == [name]


def test_only_a_path_that_begins_with_a_tilde_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for text, path in [("~/a", tmp_path / "a"), ("$HOME/a", tmp_path / "$HOME/a"), ("./~", tmp_path / "~")]:
        config = with_absolute_paths(load_config("digits", ["data.source=csv", f"data.path={text}"]))
        assert config.data.path == str(path)


@pytest.mark.parametrize("name", ["a\x1b[2J", "x\ny", "\u202e", "\x85", "\U000e0041", "é"])
def test_a_written_configuration_shows_no_hidden_character_and_has_the_same_value(name, tmp_path):
    config = load_config("digits", [f"data.label_column={name}"])
    text = commented_toml(config)
    assert plain_lines(text) == text
    path = tmp_path / "c.toml"
    path.write_text(text)
    assert load_config(path).data.label_column == name.strip()


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/proc/self/environ", "pipe"])
def test_a_configuration_is_a_regular_file(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(InputError, match="a regular file is needed"):
        load_config(path)
    with pytest.raises(InputError, match=r"data.path = .*a regular file is needed"):
        with_absolute_paths(load_config("digits", ["data.source=csv", f"data.path={path}"]))


def test_a_large_file_is_no_configuration(tmp_path):
    path = tmp_path / "c.toml"
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(InputError, match="bytes are too many"):
        load_config(path)


@pytest.mark.parametrize("option", ["--to", "--picture", "--out"])
def test_a_result_replaces_no_device(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    commands = {"--to": ["init", "."], "--picture": ["inspect", "."], "--out": ["train"]}
    for path in ("pipe", "/dev/null"):
        assert main([*commands[option], option, path]) == 2
        assert f"{option} {path}: a " in capsys.readouterr().err


@pytest.mark.parametrize(("text", "value"), [("1#2", "1#2"), ("1\nx=2", "1\nx=2"), ("0x10", 16)])
def test_a_value_is_read_whole(text, value):
    assert setting_value("run.seed", text) == value
