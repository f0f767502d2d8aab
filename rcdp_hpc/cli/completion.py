"""Completion scripts for bash, zsh and fish, generated from the parser and the keys of the configuration.

The scripts contain all words, so that completion does not start Python.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from rcdp_hpc.config import profile_names
from rcdp_hpc.config.choices import choices_of
from rcdp_hpc.config.choices.output_formats import OUTPUT_FORMATS
from rcdp_hpc.config.keys import key_types, known_keys, marked_keys

ValueKind = Literal["nothing", "file", "folder", "configuration", "setting", "text", "word"]

# Kind of completion for each metavar of the help.
_BY_METAVAR: Mapping[str, ValueKind] = {
    "RUN": "folder",
    "NEW": "folder",
    "UNIT": "word",
    "BITS": "word",
    "FILE": "file",
    "SAMPLES": "file",
    "CONFIG": "configuration",
    "PROFILE": "configuration",
    "SECTION.KEY=VALUE": "setting",
    "SHELL": "word",
    "COMMAND": "word",
}
# Words of metavars that accept other values as well.
_WORDS: Mapping[str, Sequence[str]] = {"FORMAT": OUTPUT_FORMATS.names}


@dataclass(frozen=True)
class Argument:
    """An option or positional argument of a command.

    Attributes
    ----------
    options : tuple of str
        Empty for a positional argument.
    meaning : str
    value_kind : str
        How its value is completed.
    words : tuple of str
        The values, if `value_kind` is "word".
    repeats : bool
        Whether an option may be repeated.
    """

    options: tuple[str, ...]
    meaning: str
    value_kind: ValueKind
    words: tuple[str, ...] = ()
    repeats: bool = False


def completion_script(
    shell: str, parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]
) -> str:
    """Return the script that completes ``rcdp`` in a shell.

    Parameters
    ----------
    shell : {"bash", "zsh", "fish"}
    parser : ArgumentParser
        The parser of ``rcdp``.
    commands : mapping of str to ArgumentParser
        The parsers of its commands, by name.
    """
    meanings = {
        choice.dest: choice.help or ""
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    }
    arguments = {name: _arguments(command, tuple(commands)) for name, command in commands.items()}
    parts = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](meanings, arguments)
    template = (resources.files("rcdp_hpc.cli") / f"completion.{shell}").read_text(encoding="utf-8")
    return re.sub(r"^@(\w+)@\n", lambda match: "".join(f"{line}\n" for line in parts[match[1]]), template, flags=re.M)


def _arguments(command: argparse.ArgumentParser, commands: tuple[str, ...]) -> list[Argument]:
    arguments = []
    for action in command._actions:
        words = tuple(str(choice) for choice in action.choices or _WORDS.get(str(action.metavar), ()))
        if action.metavar == "COMMAND":
            words = commands
        value_kind: ValueKind = "nothing"
        if action.nargs != 0:
            value_kind = "word" if words else _BY_METAVAR.get(str(action.metavar), "text")
        repeats = isinstance(action, argparse._AppendAction)
        arguments.append(Argument(tuple(action.option_strings), action.help or "", value_kind, words, repeats))
    return arguments


def _values() -> dict[str, list[str]]:
    """Return the values that complete each key: its choices, or true and false."""
    by_key = {}
    for key, kind in key_types().items():
        values = [str(choice) for choice in choices_of(key) if ":" not in str(choice)]
        if values or kind is bool:
            by_key[key] = values or ["true", "false"]
    return by_key


def _bash(meanings: Mapping[str, str], arguments: Mapping[str, list[Argument]]) -> dict[str, Iterator[str]]:
    named = [(name, one) for name, some in arguments.items() for one in some if one.options]
    return {
        "COMMANDS": iter([f"_rcdp_commands='{' '.join(arguments)}'"]),
        "PROFILES": iter([f"_rcdp_profiles='{' '.join(profile_names())}'"]),
        "KEYS": iter([f"_rcdp_keys='{' '.join(f'{key}=' for key in known_keys())}'"]),
        "OPTIONS": (
            f"        {name}) echo '{' '.join(option for one in some for option in one.options)}' ;;"
            for name, some in arguments.items()
        ),
        "TAKES": (
            f"        {'|'.join(shlex.quote(f'{name} {option}') for option in one.options)}) echo {_kind(one)} ;;"
            for name, one in named
            if one.value_kind != "nothing"
        ),
        "POSITIONAL": (
            f"        {name}) echo {' '.join(_kind(one) for one in some if not one.options) or 'nothing'} ;;"
            for name, some in arguments.items()
        ),
        "VALUES": iter(
            [f"        {key}) echo '{' '.join(values)}' ;;" for key, values in _values().items()]
            + [f"        {'|'.join(marked_keys('path'))}) echo file ;;"]
        ),
    }


def _kind(argument: Argument) -> str:
    """Return the completion of a value for bash: its kind, followed by the words with colons between them."""
    return ":".join([argument.value_kind, *argument.words])


def _zsh(meanings: Mapping[str, str], arguments: Mapping[str, list[Argument]]) -> dict[str, Iterator[str]]:
    return {
        "COMMANDS": (f"        {shlex.quote(f'{name}:{meaning}')}" for name, meaning in meanings.items()),
        "CASES": (line for name, some in arguments.items() for line in _zsh_case(name, some)),
        "PROFILES": iter([f"    compadd -- {' '.join(profile_names())}"]),
        "KEYS": iter([f"    compadd -S '' -- {' '.join(f'{key}=' for key in known_keys())}"]),
        "VALUES": iter(
            [f"            {key}) compadd -- {' '.join(values)} ;;" for key, values in _values().items()]
            + [f"            {'|'.join(marked_keys('path'))}) _files ;;"]
        ),
    }


def _zsh_case(name: str, arguments: list[Argument]) -> Iterator[str]:
    yield f"        {name})"
    specs = []
    at = 0
    for one in arguments:
        value = "" if one.value_kind == "nothing" else f":value:{_zsh_action(one)}"
        meaning = re.sub(r"([\[\]:\\])", r"\\\1", one.meaning)
        if not one.options:
            at += 1
            specs.append(f"{at}{value}")
        for option in one.options:
            specs.append(f"{'*' * one.repeats}{option}{'=' * bool(value and option[1] == '-')}[{meaning}]{value}")
    yield "            _arguments " + " ".join(shlex.quote(spec) for spec in specs) + " ;;"


def _zsh_action(argument: Argument) -> str:
    actions = {
        "file": "_files",
        "folder": "_files -/",
        "configuration": "_rcdp_configuration",
        "setting": "_rcdp_setting",
        "word": f"({' '.join(argument.words)})",
    }
    return actions.get(argument.value_kind, " ")


def _fish(meanings: Mapping[str, str], arguments: Mapping[str, list[Argument]]) -> dict[str, Iterator[str]]:
    return {
        "COMMANDS": (
            f"complete -c rcdp -n __fish_use_subcommand -a {name} -d {shlex.quote(meaning)}"
            for name, meaning in meanings.items()
        ),
        "ARGUMENTS": (_fish_line(name, one) for name, some in arguments.items() for one in some),
        "PROFILES": iter([f"    printf '%s\\n' {' '.join(profile_names())}"]),
        "KEYS": iter([f"            printf '%s=\\n' {' '.join(known_keys())}"]),
        "VALUES": iter(
            [
                line
                for key, values in _values().items()
                for line in (f"        case {key}", f"            printf '%s\\n' $key={{{','.join(values)}}}")
            ]
            + [f"        case {' '.join(marked_keys('path'))}"]
        ),
    }


def _fish_line(name: str, argument: Argument) -> str:
    line = f"complete -c rcdp -n '__rcdp_command {name}'"
    for option in argument.options:
        line += f" -l {option[2:]}" if option.startswith("--") else f" -s {option[1:]}"
    actions = {
        "folder": "(__fish_complete_directories)",
        "configuration": "(__rcdp_configurations)",
        "setting": "(__rcdp_settings)",
        "word": " ".join(argument.words),
    }
    if argument.options and argument.value_kind != "nothing":
        line += " -r" if argument.value_kind == "file" else " -x"
    if argument.value_kind == "file":
        line += " -F"
    elif argument.value_kind in actions:
        line += f" -a '{actions[argument.value_kind]}'"
    return f"{line} -d {shlex.quote(argument.meaning)}" if argument.options else line
