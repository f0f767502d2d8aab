"""A configuration from a file or a shipped profile, with settings changed on the way."""

from __future__ import annotations

import codecs
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rcdp_hpc.config.keys import chosen_keys, flatten, key_types
from rcdp_hpc.config.kind_defaults import KIND_PROFILES
from rcdp_hpc.config.messages import did_you_mean_key, explain
from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.config.profile_values import DEMO, demo_on_other_data, report_left_out, without_demo_values
from rcdp_hpc.config.python_values import merge, python_tree
from rcdp_hpc.config.regular_files import refuse_special
from rcdp_hpc.config.root import Config
from rcdp_hpc.config.suggest import did_you_mean
from rcdp_hpc.config.toml_text import DEEPEST, SHOWN, shortened, toml_tree
from rcdp_hpc.config.usage import warn_of_unused
from rcdp_hpc.config.values import WrittenFloat, as_written, setting_value
from rcdp_hpc.errors import InputError

# What other editors and PowerShell's `>` write; nothing else begins with these bytes.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# Lists of columns may be long.
MOST_BYTES = 2**24
_DATA = ". CONFIG is a TOML file or the name of a profile; `rcdp init DATA --to my.toml` writes one for data"


def profile_names() -> list[str]:
    """Return the names of the shipped profiles."""
    folder = resources.files("rcdp_hpc") / "configs"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_config(
    name: str | Path | Mapping[str, Any], overrides: Iterable[str] = (), **sections: Mapping[str, Any]
) -> Config:
    """Read a configuration file or shipped profile, or take a dict, and change settings.

    Parameters
    ----------
    name : str, Path or mapping
        Path of a TOML file (``~`` is expanded), the name of a shipped profile, or a dict of sections as in a file:
        ``{"data": {"path": "my.csv"}}``.
    overrides : iterable of str
        Settings of the form ``section.key=value``. Keys of text take the value as it is, with or without quotes; lists
        need no brackets; other values are TOML. They are applied last.
    **sections : mapping
        Settings by section, as in ``training={"epochs": 20}``.

    Returns
    -------
    Config
        The checked configuration.

    Raises
    ------
    InputError
        If the file cannot be read, or a key or value in it is not accepted.

    Examples
    --------
    >>> load_config("digits", training={"epochs": 20}).training.epochs
    20
    """
    if not isinstance(name, str | Path | Mapping):
        raise InputError(
            f"a configuration was given as a {type(name).__name__}: expected a dict, the path of a TOML file or the "
            "name of a profile"
        )
    if isinstance(overrides, str):
        raise InputError(f"settings were given as a text: expected a list, as in [{overrides!r}]")
    is_dict = isinstance(name, Mapping)
    where = "given as a dict" if isinstance(name, Mapping) else str(name)
    tree = python_tree(name) if isinstance(name, Mapping) else _read_toml(where)
    changes, overrides = python_tree(sections), list(overrides)
    source = demo_on_other_data(tree, [*_source_settings(changes), *overrides])
    if source:
        demo = tomllib.loads((resources.files("rcdp_hpc") / "configs" / f"{DEMO}.toml").read_text(encoding="utf-8"))
        report_left_out(where, source, without_demo_values(tree, demo))
    merge(tree, changes)
    for override in overrides:
        _apply_override(tree, override)
    complete = not is_dict and _is_complete(where)
    config = parse_config(tree, where=where, chosen=None if complete else chosen_keys(tree))
    if config.chosen is None:  # the others wait for the kind of data
        warn_of_unused(config, [*flatten(changes), *(override.partition("=")[0].strip() for override in overrides)])
    return config


def _source_settings(changes: Mapping[str, Any]) -> list[str]:
    data = changes.get("data")
    return [f"data.source={data['source']}"] if isinstance(data, Mapping) and "source" in data else []


def parse_config(tree: Mapping[str, Any], where: str, chosen: frozenset[str] | None = None) -> Config:
    """Check a tree of settings.

    Parameters
    ----------
    tree : mapping
        Sections and keys; a key left out takes its default.
    where : str
        Names the origin of the settings in messages.
    chosen : frozenset of str, optional
        `Config.chosen` of the result.

    Raises
    ------
    InputError
        If a key or value is not accepted.
    """
    try:
        return Config.model_validate(as_written(tree)).with_chosen(chosen)
    except ValidationError as error:
        # A key of several types has one problem for each.
        problems = {problem["loc"][:3]: explain(dict(problem)) for problem in reversed(error.errors())}
        raise InputError(f"configuration {where}: " + "; ".join(reversed(problems.values()))) from None


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Return the tree of settings that ``section.key=value`` overrides make; raise an `InputError` on another form."""
    tree: dict[str, Any] = {}
    for override in overrides:
        _apply_override(tree, override)
    return tree


def _is_profile(name: str) -> bool:
    """Return whether a name is that of a profile: a file wins, but a folder of data may be named like one."""
    return name in profile_names() and not absolute_path(name).is_file()


def _is_complete(name: str) -> bool:
    """Return whether a name is that of a profile that takes no defaults of the kind of data."""
    return _is_profile(name) and name not in KIND_PROFILES.values()


def _read_toml(name: str) -> dict[str, Any]:
    path = absolute_path(name)
    if _is_profile(name):
        profile = resources.files("rcdp_hpc") / "configs" / f"{name}.toml"
        return tomllib.loads(profile.read_text(encoding="utf-8"))
    refuse_special(path, "configuration")
    try:
        _refuse_large(path, name)
        text = _decoded(path.read_bytes(), name)
    except FileNotFoundError:
        raise InputError(_no_configuration(name)) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"configuration {name}: cannot be read: {reason}{_what_it_is(name)}") from None
    try:
        return toml_tree(text, WrittenFloat)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"configuration {name}: not valid TOML: {error}{_remedy(error, text, path)}") from None


def _refuse_large(path: Path, name: str) -> None:
    if (size := path.stat().st_size) > MOST_BYTES and not path.is_dir():
        raise InputError(f"configuration {name}: {size} bytes are too many for a configuration{_DATA}")


def _no_configuration(name: str) -> str:
    known = profile_names()
    hint = did_you_mean(name, [*known, *(path.name for path in Path().glob("*.toml"))])
    return f"configuration {name}: neither a TOML file nor a shipped profile ({', '.join(known)}){hint}"


def _what_it_is(name: str) -> str:
    path = absolute_path(name)
    if os.path.isfile(path / "config.toml"):
        return f". It is a run directory: use --out {name}, which reads its configuration"
    if os.path.isdir(path):
        return _DATA
    return ""


def _decoded(content: bytes, name: str) -> str:
    encoding = next((kind for mark, kind in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in content or not name.endswith(".toml"):
            raise InputError(f"configuration {name}: not a text file{_DATA}") from None
        before = content[: error.start]
        line = before.count(b"\n") + 1
        shown = content.splitlines()[line - 1].decode("cp1252", errors="replace").strip()
        raise InputError(
            f"configuration {name}: line {line} is not UTF-8 text: {shown[:80]!r} when read as cp1252. Save the file "
            f"as UTF-8, for example: iconv -f cp1252 -t utf-8 {name} > utf8.toml"
        ) from None


def _remedy(error: tomllib.TOMLDecodeError, text: str, path: Path) -> str:
    """Return the line in question and what is usually wrong with it."""
    found = re.search(r"line (\d+)", str(error))
    lines = text.splitlines()
    line = lines[int(found[1]) - 1].strip() if found and int(found[1]) <= len(lines) else ""
    if path.suffix.lower() != ".toml":
        return _DATA
    if re.search(r"=\s*(True|False)$", line):
        return f": {shortened(line)}. Write true or false in small letters"
    if "\\" in line:
        return f": {shortened(line)}. Write text that holds \\ in single quotes"
    setting = re.fullmatch(r"([\w.-]+)\s*=\s*([^\"'\[{].*)", line)
    if setting and len(line) <= SHOWN:
        return f": {line}. Text needs quotes: {setting[1]} = '{setting[2]}'"
    return f": {shortened(line)}" if line else ""


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    key = key.strip()
    parts = key.split(".")
    if not separator or not 2 <= len(parts) <= DEEPEST or not all(parts):
        if separator and f"{key}.kind" in key_types():
            raise InputError(f"--set {shortened(override)}: {key} is a section; set one of its keys: {key}.kind={text}")
        known = separator and len(parts) == 1
        hint = did_you_mean_key(key) if known and key and key not in Config.model_fields else ""
        raise InputError(f"--set {shortened(override)}: expected section.key=value, as in training.epochs=20{hint}")
    node = tree
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise InputError(f"--set {shortened(override)}: {shortened(part)} is not a section")
        node = child
    if isinstance(node.get(parts[-1]), dict) and key not in key_types():
        raise InputError(f"--set {shortened(override)}: {key} is a section; set one of its keys, as in {key}.KEY=VALUE")
    node[parts[-1]] = setting_value(key, text)
