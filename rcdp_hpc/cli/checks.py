"""Checks of the paths on the command line, before any work."""

from __future__ import annotations

import os
from pathlib import Path

from rcdp_hpc.config.regular_files import special_kind
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.rundir import RunDirectory


def check_reachable(path: Path) -> None:
    """Raise an `InputError` if the system cannot look up `path`: a name is too long, or a folder denies access."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # other checks report a missing file, if the file must exist
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: {reason}. Choose another path.") from None


def check_output_folder(option: str, path: Path) -> None:
    """Raise an `InputError` if `path` is not a folder and no folder can be created there."""
    if path.resolve() == Path(path.anchor or "/"):
        raise InputError(
            f"{option} {path}: the root of the file system; expected a folder for this run. Check that all variables "
            "in the path are set."
        )
    if path.exists() and not path.is_dir():
        raise InputError(
            f"{option} {path}: {special_kind(path) or 'a file'}; expected a folder, or the name of a new one."
        )
    _check_writable(option, path, path)


def check_output_file(option: str, path: Path, suffixes: tuple[str, ...] = ()) -> None:
    """Raise an `InputError` if no file can be written at `path`, or its name does not end in one of `suffixes`."""
    if path.is_dir():
        raise InputError(f"{option} {path}: a folder; expected the name of a file.")
    if kind := special_kind(path):
        raise InputError(f"{option} {path}: {kind}, which would be replaced. Choose the name of a regular file.")
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: expected a name that ends in {' or '.join(suffixes)}.")
    _check_writable(option, path, path.parent)


def _check_writable(option: str, path: Path, folder: Path) -> None:
    """Check the nearest parent folder that exists, in which the others are created."""
    folder = folder.absolute()
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        kind = "a broken link" if folder.is_symlink() else "a file, not a folder"
        raise InputError(f"{option} {path}: {folder} is {kind}. Choose a folder that you may write to.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path}: no permission to write to {folder}. Choose a folder that you may write to.")


def existing_run(path: Path) -> RunDirectory:
    """Return the run directory at `path`.

    Raises
    ------
    InputError
        If there is no such folder, or it is the folder of the shards.
    """
    if not path.exists():
        raise InputError(f"{path}: no such run directory.")
    if not path.is_dir():
        raise InputError(f"{path}: {special_kind(path) or 'a file'}; expected a run directory.")
    if (path / "index.json").exists() and not (path / "shards").exists():
        raise InputError(f"{path}: the shards of a run; give the run directory: {path.absolute().parent}")
    return RunDirectory(path)
