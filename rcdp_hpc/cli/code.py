"""Consent to run code that a configuration names: the user's own code is recorded, other code needs --allow-code."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from rcdp_hpc.config import Config, parse_overrides
from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.runtime.code_consent import code_named_by, record_user_modules, require_consent
from rcdp_hpc.runtime.rundir import RunDirectory

ALLOW_CODE = "--allow-code"


def add_allow_code(parser: argparse.ArgumentParser) -> None:
    """Add the option that allows code that a file names."""
    parser.add_argument(
        ALLOW_CODE,
        action="store_true",
        help="run classes and functions that files in RUN name, even if your configurations have not named them",
    )


def settle_code(config: Config, file: Path, is_own: bool, settings: Iterable[str], allow_code: bool) -> None:
    """Record the code that the user names in this command; refuse code that only a file of a run directory names.

    Parameters
    ----------
    config : Config
        Settings of the command.
    file : Path
        The configuration file.
    is_own : bool
        Whether the user named the file in the command.
    settings : iterable of str
        The settings of the command, as ``section.key=value``.
    allow_code : bool
        Refuse nothing.

    Raises
    ------
    InputError
        If code is refused.
    """
    names = code_named_by(config)
    if not names:
        return
    typed = parse_overrides(settings)
    user_keys = {key for key in names if _holds(typed, key) or (is_own and not is_of_a_run(file))}
    for key in sorted(set(names) - user_keys):
        if not allow_code:
            require_consent(key, names[key], file)
    record_user_modules(names[key] for key in sorted(user_keys))


def is_of_a_run(file: Path) -> bool:
    """Return whether a configuration file is the ``config.toml`` of a run directory."""
    path = absolute_path(file)
    folder = RunDirectory(path.parent)
    return path == folder.config_file and any(
        part.exists() for part in (folder.path / "state", folder.log, folder.shards)
    )


def _holds(tree: object, key: str) -> bool:
    for part in key.partition("[")[0].split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True
