"""Checks of the paths on the command line, earlier than any work."""

from __future__ import annotations

import os
from pathlib import Path

from rcdp_hpc.config.regular_files import special_kind
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.rundir import RunDirectory


def check_reachable(path: Path) -> None:
    """Raise an `InputError` if the system cannot look for `path`: a name is too long, a folder is closed."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # other checks name what is missing, if it has to be there
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: {reason}. Choose another path.") from None


def check_output_folder(option: str, path: Path) -> None:
    """Raise an `InputError` if `path` is not a folder, or none can be made there."""
    if path.resolve() == Path(path.anchor or "/"):
        raise InputError(
            f"{option} {path}: the root of the file system; expected a folder for this run alone. Is a variable in the "
            "path not set?"
        )
    if path.exists() and not path.is_dir():
        raise InputError(
            f"{option} {path}: {special_kind(path) or 'a file'}; expected a folder, or the name of a new one."
        )
    _check_writable(option, path, path)


def check_output_file(option: str, path: Path, suffixes: tuple[str, ...] = ()) -> None:
    """Raise an `InputError` if no file can be written at `path`, or its name ends in none of `suffixes`."""
    if path.is_dir():
        raise InputError(f"{option} {path}: a folder; expected the name of a file.")
    if kind := special_kind(path):
        raise InputError(f"{option} {path}: {kind}, which a file would replace. Choose the name of a regular file.")
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: expected a name that ends in {' or '.join(suffixes)}.")
    _check_writable(option, path, path.parent)


def _check_writable(option: str, path: Path, folder: Path) -> None:
    """Check the nearest folder that exists: the others are made in it."""
    folder = folder.absolute()
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        what = "a link to nothing" if folder.is_symlink() else "a file, not a folder"
        raise InputError(f"{option} {path}: {folder} is {what}. Choose a folder that you may write to.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path}: you may not write to {folder}. Choose a folder that you may write to.")


def existing_run(path: Path) -> RunDirectory:
    """Return the run directory at `path`.

    Raises
    ------
    InputError
        If there is no folder, or it is that of the shards.
    """
    if not path.exists():
        raise InputError(f"{path}: no such run directory.")
    if not path.is_dir():
        raise InputError(f"{path}: {special_kind(path) or 'a file'}; expected a run directory.")
    if (path / "index.json").exists() and not (path / "shards").exists():
        raise InputError(f"{path}: the shards of a run; name the run directory itself: {path.absolute().parent}")
    return RunDirectory(path)
