"""Paths as they are typed: with ~, relative, missing, of the wrong kind. One message and code 2 for what is wrong."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

import rcdp_hpc
from rcdp_hpc.cli import main
from rcdp_hpc.config import load_config
from rcdp_hpc.runtime.rundir import RunDirectory

TABLE = ["data.source=csv", "data.shards=1", "data.class_keep_fractions=", "data.balance=none"]


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home folder with tables in it, and a working directory within."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, first in (("t.csv", 0), ("test.csv", 40)):
        with open(tmp_path / name, "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["a", "b", "label"])
            table.writerows([row * 0.37 % 1, row % 5 + 0.5, "xy"[row % 2]] for row in range(first, first + 40))
    for folder in ("work", "other"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def prepare(*words: str) -> int:
    return main(["prepare", "--quiet", *words])


def flags(*settings: str) -> list[str]:
    return [f"--set={setting}" for setting in settings]


@pytest.mark.parametrize(("path", "test_path"), [("../t.csv", "../test.csv"), ("~/t.csv", "~/test.csv")])
def test_paths_of_data_are_kept_absolute_for_commands_from_other_folders(path, test_path, home, monkeypatch):
    settings = flags(*TABLE, f"data.path={path}", f"data.test_path={test_path}")
    assert prepare("digits", "--out=~/run", *settings) == 0
    assert (home / "run/shards/index.json").exists()
    data = RunDirectory(home / "run").config().data
    for kept, name in ((data.path, "t.csv"), (data.test_path, "test.csv")):
        assert Path(kept).is_absolute()
        assert Path(kept).samefile(home / name)
    monkeypatch.chdir(home / "other")
    assert prepare("--out", "../run", "--restart") == 0


def test_paths_of_a_file_are_relative_to_the_working_directory(home, monkeypatch):
    (home / "other/my.toml").write_text("[data]\nsource='csv'\npath='../t.csv'\nshards=1\n")
    assert prepare("~/other/my.toml", "--out", "run") == 0
    assert (home / "work/run/shards/index.json").exists()


def test_from_python_too(home):
    config = load_config("digits", [*TABLE, "data.path=~/t.csv", "data.test_path=../test.csv"])
    rcdp_hpc.prepare(config, out="~/python-run")
    data = RunDirectory(home / "python-run").config().data
    assert data.path == str(home / "t.csv")
    assert Path(data.test_path).is_absolute()


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("text")
    for name in ("empty", "run/shards"):
        Path(name).mkdir(parents=True)
    Path("run/shards/index.json").write_text("{}")
    Path("link").symlink_to("nowhere")
    return tmp_path


@pytest.mark.parametrize("stage", ["run", "prepare", "train", "evaluate", "crossvalidate", "submit", "plan"])
@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("file", "--out file: a file; expected a folder"),
        ("file/run", "file is a file, not a folder"),
        ("link/run", "link is a broken link"),
    ],
)
def test_a_run_directory_that_cannot_be_made_is_refused(stage, out, words, places, capsys):
    assert main([stage, "digits", "--out", out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rcdp: error: ")
    assert words in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_others_is_refused(places, capsys):
    Path("empty").chmod(0o500)
    assert main(["prepare", "digits", "--out", "empty/run"]) == 2
    assert "no permission to write to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("verify nowhere", "nowhere: no such run directory"),
        ("verify file", "file: a file; expected a run directory"),
        ("verify run/shards", "give the run directory: "),
        ("verify empty", "Run `rcdp prepare` first"),
        ("inspect nowhere", "nowhere: no such run directory"),
        ("inspect run --picture empty", "--picture empty: a folder"),
        ("inspect run --picture file/x.png", "--picture file/x.png: "),
        ("inspect run --picture x.xyz", "ends in .png"),
        ("status nowhere", "nowhere: no such run directory"),
        ("predict run x.npz --to empty", "--to empty: a folder"),
        ("predict run x.npz --to file/o.csv", "--to file/o.csv: "),
        ("predict nowhere x.npz --to o.csv", "nowhere: no such run directory or model file"),
        ("train --out empty", "empty: not a run directory yet (it has no config.toml)"),
        ("train --out nowhere", "Name a configuration, as in `rcdp run digits --out nowhere`"),
        ("run nowhere.toml --out new", "neither a TOML file nor a shipped profile"),
        ("run empty --out new", "CONFIG is a TOML file or the name of a profile"),
        ("config file", "not valid TOML"),
        ("submit digits --out new --site nowhere --dry-run", "no such site file"),
        ("submit digits --out new --array configs=empty --dry-run", "no TOML file matches"),
        ("search --report --out empty", "nothing can be drawn"),
        ("plan", "needs CONFIG"),
    ],
)
def test_a_path_of_the_wrong_kind_is_one_message_and_code_2(words, message, places, capsys):
    assert main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rcdp: error: ")
    assert message in line
    assert not Path("new").exists()
