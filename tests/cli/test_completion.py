"""Completion scripts, tested in the shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from launch import BIN

from rcdp_hpc.cli.completion import completion_script
from rcdp_hpc.cli.parser import SHELLS, build_parser
from rcdp_hpc.config import profile_names
from rcdp_hpc.config.choices import SOURCES

# Typed lines, and the words that a shell must and must not offer for the last word.
TYPED = {
    "rcdp ": (["run", "predict", "completion", "help"], ["digits"]),
    "rcdp tra": (["train"], ["run"]),
    "rcdp train --": (["--out", "--set", "--restart", "--quiet"], ["--to"]),
    "rcdp predict --": (["--to"], ["--out"]),
    "rcdp run ": ([*profile_names(), "my.toml"], ["prepare"]),
    "rcdp run --quiet mn": (["mnist", "mnist-ridge"], ["digits"]),
    "rcdp run my.toml --out ru": (["runs"], ["table.csv"]),
    "rcdp run --set data.so": (["data.source="], ["data.path="]),
    "rcdp run --set data.source=": (SOURCES.names, ["true"]),
    "rcdp run --set=readout.kind=l": (["lstm"], ["gru"]),
    "rcdp run --set optimizer.nesterov=": (["true", "false"], ["table.csv"]),
    "rcdp run --set data.path=ta": (["table.csv"], ["runs"]),
    "rcdp predict runs/mine ta": (["table.csv"], ["my.toml"]),
    "rcdp predict runs/mine table.csv --to my": (["my.toml"], []),
    "rcdp completion ": (list(SHELLS), ["run"]),
    "rcdp help pre": (["prepare", "predict"], ["run"]),
}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "runs/mine").mkdir(parents=True)
    for name in ("my.toml", "table.csv"):
        (tmp_path / name).write_text("")
    for shell in SHELLS:
        (tmp_path / f".rcdp.{shell}").write_text(completion_script(shell, *build_parser()))
    return tmp_path


def output(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def offered_by_bash(folder: Path) -> list[list[str]]:
    lines = "\n".join(f"try {line!r}" for line in TYPED)
    script = f"""
        source .rcdp.bash
        try() {{ COMP_LINE=$1; COMP_POINT=${{#1}}; _rcdp; (IFS=$'\\t'; printf '%s\\n' "${{COMPREPLY[*]}}"); }}
        {lines}
    """
    return [line.split("\t") for line in output(["bash", "--norc", "-c", script], folder).splitlines()]


def offered_by_fish(folder: Path) -> list[list[str]]:
    lines = "\n".join(f"complete -C {line!r}; echo ---" for line in TYPED)
    parts = output(["fish", "--no-config", "-c", f"source .rcdp.fish\n{lines}"], folder).split("---\n")
    return [[line.partition("\t")[0] for line in part.splitlines()] for part in parts]


def bare(word: str, typed: str) -> str:
    """Return an offered word without the prefix that some shells repeat, and without the slash of a folder."""
    last = typed.split(" ")[-1]
    return word.removeprefix(last[: last.rfind("=") + 1]).rstrip("/")


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_offers_fitting_words(shell, folder):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    offered = {"bash": offered_by_bash, "fish": offered_by_fish}[shell](folder)
    for (typed, (expected, refused)), words in zip(TYPED.items(), offered, strict=False):
        found = {bare(word, typed) for word in words}
        assert set(expected) <= found, f"{typed}: {words}"
        assert not set(refused) & found, f"{typed}: {words}"


# zsh completes only in a terminal, so each word is completed in a pseudo terminal. The test waits for its line editor,
# because the terminal itself would echo keys that are typed earlier.
ZSH = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PROMPT=""; autoload -Uz compinit; compinit -u -D; source .rcdp.zsh; bindkey "^I" complete-word
zle-line-init() { print -rn -- BEG""UN }; zle -N zle-line-init'
zpty -r z out '*BEGUN*'
for line in "$@"; do
    zpty -w -n z "$line"$'\t'"XEND"
    zpty -r z out '*XEND*'
    print -r -- "${${(V)out}##*rcdp}"
    zpty -w -n z $'\025'
done
"""


def test_zsh_completes_a_word(folder):
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    typed = {
        "rcdp tra": "train",
        "rcdp run dig": "digits",
        "rcdp run my": "my.toml",
        "rcdp run --set data.sou": "data.source=",
        "rcdp run --set data.source=im": "data.source=image_folder",
        "rcdp run --set=readout.kind=ls": "--set=readout.kind=lstm",
        "rcdp run --set data.path=ta": "data.path=table.csv",
        "rcdp run --out=ru": "--out=runs",
        "rcdp predict runs/mine ta": "table.csv",
        "rcdp train --res": "--restart",
        "rcdp completion ba": "bash",
    }
    found = output(["zsh", "-f", "-c", ZSH, "zsh", *typed], folder).splitlines()[-len(typed) :]
    for line, (words, word) in zip(found, typed.items(), strict=True):
        assert word in line, f"{words}: {line}"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_the_script(shell, folder):
    text = (folder / f".rcdp.{shell}").read_text()
    for name, command in build_parser()[1].items():
        assert name in text
        for action in command._actions:
            for option in action.option_strings:
                assert (f"-l {option[2:]} " if shell == "fish" and option[:2] == "--" else option[1:]) in text
    assert "@" not in text.replace("$@", "").replace("[@]", "").replace('"@', "")


def test_shellcheck_accepts_the_script_for_bash(folder):
    done = subprocess.run(
        [BIN / "shellcheck", "--shell=bash", folder / ".rcdp.bash"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout
