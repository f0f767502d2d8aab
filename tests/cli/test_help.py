"""Help texts: complete, within 80 columns, with examples that work."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from launch import environment, rcdp

from rcdp_hpc.cli import main
from rcdp_hpc.cli.commands import COMMANDS
from rcdp_hpc.cli.examples import EXAMPLES, GENERAL
from rcdp_hpc.cli.parser import build_parser, parse
from rcdp_hpc.config import load_config

ALL = [*GENERAL, *(example for examples in EXAMPLES.values() for example in examples)]
LINES = [line for line, _ in ALL]
# Commands whose examples are run. Examples with a launcher or Slurm, and long ones, are only parsed here.
QUICK = ("config", "completion", "status", "verify", "inspect", "predict", "submit", "help", "prepare")


def words_of(line: str) -> list[str]:
    """Return the arguments that rcdp gets from the line of an example."""
    line = line.partition(" > ")[0].removeprefix("source <(").removesuffix(")").removesuffix(" | source")
    words = shlex.split(line)
    return words[words.index("rcdp") + 1 :]


def shown(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_without_a_command_the_help_is_printed(capsys):
    text = shown(capsys)
    assert text == shown(capsys, "--help") == shown(capsys, "help")
    for command in (*COMMANDS, "help"):
        assert f"\n    {command}" in text
    for line, _ in GENERAL:
        assert line in text


@pytest.mark.parametrize("command", [*COMMANDS, "help"])
def test_each_help_has_a_sentence_and_examples_and_fits_80_columns(command, capsys, monkeypatch):
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        text = shown(capsys, command, "--help")
        assert max(map(len, text.splitlines())) <= 80
    assert text == shown(capsys, "help", command)
    sentence = text.partition("\n\n")[2].partition("\n\n")[0]
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert EXAMPLES[command]
    for line, meaning in EXAMPLES[command]:
        assert f"rcdp {command}" in line
        assert f"  {line}\n      {meaning}" in text


def test_every_option_has_a_meaning():
    for command in build_parser()[1].values():
        for action in command._actions:
            assert action.help, f"{command.prog} {action.dest}"


@pytest.mark.parametrize("line", LINES)
def test_every_example_is_understood(line):
    words = words_of(line)
    if words[0] == "help":
        return
    options = parse(words)
    assert options.command == words[0]
    # A profile accepts the settings of the example.
    load_config("digits", getattr(options, "set", []))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a configuration, new samples and a finished run."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = ["search.generations=0", "reservoir.nodes=20", "reservoir.kernel=dense-fp32", "data.shards=2"]
        flags = [f"--set={setting}" for setting in [*settings, "readout.kind=ridge"]]
        assert main(["run", "digits", "--out", "runs/mine", "--quiet", *flags]) == 0
        Path("my.toml").write_text(Path("runs/mine/config.toml").read_text())
        np.savez("new.npz", x=np.zeros((3, 8, 8)))
    return folder


@pytest.mark.parametrize("line", [line for line in LINES if words_of(line)[0] in QUICK and "mpirun" not in line])
def test_every_quick_example_works(line, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = words_of(line)
    if words[0] == "help":
        shown(capsys, *words)
        return
    if words[0] == "submit" and "--dry-run" not in words:
        words.append("--dry-run")
    assert main(words) == 0, capsys.readouterr()
    assert capsys.readouterr().out


def test_an_evaluated_run_is_compared_with_another(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["evaluate", "--out", "runs/mine", "--against", "runs/mine"]) == 0
    shown = capsys.readouterr()
    assert "0 samples are recognised by the model only, 0 by the other only" in shown.out + shown.err
    (record,) = json.loads(Path("runs/mine/report/summary.json").read_text())["compared"]
    assert record["p_value"] == 1
    assert record["differences"]["mcc"]["value"] == 0
    assert main(["evaluate", "--out", "runs/mine", "--against", "runs/none"]) == 2
    assert "runs/none is not evaluated yet" in capsys.readouterr().err


def test_the_completion_examples_work_in_bash(tmp_path):
    command = f'rcdp() {{ {" ".join(rcdp())} "$@"; }}; source <(rcdp completion bash); complete -p rcdp'
    done = subprocess.run(
        ["bash", "--norc", "-c", command], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "complete -F _rcdp rcdp\n"
