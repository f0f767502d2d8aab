"""A configuration from a file or a shipped profile, with settings changed on the way."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rcdp_hpc.config.keys import chosen_keys, known_keys
from rcdp_hpc.config.profile_values import DEMO, demo_on_other_data, report_left_out, without_demo_values
from rcdp_hpc.config.whole import Config
from rcdp_hpc.errors import InputError


def profile_names() -> list[str]:
    """Return the names of the shipped profiles."""
    folder = resources.files("rcdp_hpc") / "configs"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_config(name: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a configuration file or shipped profile and apply ``section.key=value`` overrides.

    Parameters
    ----------
    name : str or Path
        Path of a TOML file, or the name of a shipped profile.
    overrides : iterable of str
        Settings of the form ``section.key=value``, the value in TOML or a bare string.

    Returns
    -------
    Config
        The checked configuration.

    Raises
    ------
    InputError
        If the file cannot be read, or a key or value in it is not accepted.
    """
    tree, overrides = _read_toml(name), list(overrides)
    source = demo_on_other_data(tree, overrides)
    if source:
        demo = tomllib.loads((resources.files("rcdp_hpc") / "configs" / f"{DEMO}.toml").read_text(encoding="utf-8"))
        report_left_out(str(name), source, without_demo_values(tree, demo))
    for override in overrides:
        _apply_override(tree, override)
    is_profile = str(name) in profile_names() and not Path(name).is_file()
    return parse_config(tree, where=str(name), chosen=None if is_profile else chosen_keys(tree))


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
        return Config.model_validate(tree).with_chosen(chosen)
    except ValidationError as error:
        lines = [_explain(dict(problem)) for problem in error.errors()]
        raise InputError(f"configuration {where}: " + "; ".join(lines)) from None


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Return the tree of settings that ``section.key=value`` overrides make; raise an `InputError` on another form."""
    tree: dict[str, Any] = {}
    for override in overrides:
        _apply_override(tree, override)
    return tree


def _read_toml(name: str | Path) -> dict[str, Any]:
    path = Path(name)
    try:
        # A folder of data may well be named like a profile.
        if path.suffix == ".toml" or path.is_file():
            return tomllib.loads(path.read_text(encoding="utf-8"))
        profile = resources.files("rcdp_hpc") / "configs" / f"{name}.toml"
        return tomllib.loads(profile.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"configuration {name}: neither a TOML file nor a shipped profile ({', '.join(profile_names())})"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"configuration {name}: not valid TOML: {error}") from None
    except OSError as error:
        raise InputError(f"configuration {name}: cannot be read: {error.strerror}") from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or len(parts) < 2 or not all(parts):
        raise InputError(f"--set {override}: expected section.key=value, as in training.epochs=20")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    node = tree
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise InputError(f"--set {override}: {part} is not a section")
        node = child
    node[parts[-1]] = value


def _explain(problem: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a known key{_nearest(key)}"
    message = problem["msg"].removeprefix("Value error, ")
    if not key or message.startswith(f"{key}."):  # it names the key of a section that it is about
        return message
    return f"{key} = {problem.get('input')!r}: {message[0].lower()}{message[1:]}"


def _nearest(key: str) -> str:
    sections = [*Config.model_fields, "search.space"]
    close = difflib.get_close_matches(key, known_keys() + sections, n=1, cutoff=0.5)
    if not close:
        leaf = key.rpartition(".")[2]
        by_leaf = {name.rpartition(".")[2]: name for name in known_keys()}
        close = [by_leaf[match] for match in difflib.get_close_matches(leaf, by_leaf, n=1)]
    return f"; the nearest known one is {close[0]}" if close else ""
