"""The model file that a key of the configuration names."""

from __future__ import annotations

from pathlib import Path

from rcdp_hpc.config.regular_files import refuse_special
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.rundir import RunDirectory


def named_model(key: str, path: str | Path) -> Path:
    """Return the model file that a key names, itself or by its run directory.

    Parameters
    ----------
    key : str
        The dotted key, for messages.
    path : str or Path
        Its value.

    Raises
    ------
    InputError
        If there is no such file.
    """
    given = Path(path)
    file = RunDirectory(given).model if given.is_dir() else given
    refuse_special(str(file), f"{key} =")
    if not file.exists():
        trained = f": train it first (rcdp train --out {given})" if given.is_dir() else ""
        raise InputError(f"{key} = {path}: there is no model {file}{trained}")
    return file
