"""Code of the user's own, named in the configuration as module:name."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from rcdp_hpc.config.choices import ChoiceTable
from rcdp_hpc.errors import InputError


def load_named(key: str, name: str, kind: str, example: str, working_directory: bool = True) -> Any:
    """Import what is named ``module:name``.

    Whether the name may be believed is decided earlier, by `rcdp_hpc.runtime.code_consent`.

    Parameters
    ----------
    key, name : str
        The configuration's key, and its value.
    kind : {"function", "class"}
        What is expected.
    example : str
        A value that would do.
    working_directory : bool
        Search the working directory, too, after PYTHONPATH.

    Raises
    ------
    InputError
        If there is no such module, or nothing callable of this name in it.
    """
    module_name, separator, own_name = name.partition(":")
    if not (separator and module_name and own_name):
        raise InputError(f"{key} = {name!r}: expected module:{kind}, as in {example}")
    if working_directory and module_name not in sys.modules and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises on import
        where = f"PYTHONPATH and in {os.getcwd()}" if working_directory else "PYTHONPATH"
        raise InputError(
            f"{key} = {name!r}: module {module_name} cannot be imported ({type(error).__name__}: {error}); "
            f"it is looked for in {where}"
        ) from None
    found = getattr(module, own_name, None)
    if not callable(found):
        raise InputError(f"{key} = {name!r}: module {module_name} has no {kind} {own_name}")
    return found


def load_choice(table: ChoiceTable, name: str, working_directory: bool = True) -> Any:
    """Import what implements a choice: the package's own, or the class that the user names as ``module:Class``.

    Whether a user's name may be believed is decided earlier, by `rcdp_hpc.runtime.code_consent`.

    Parameters
    ----------
    table : ChoiceTable
        The choices of the kind.
    name : str
        The value of ``table.key``, already accepted by the table.
    working_directory : bool
        Search the working directory for a user's module, too, after PYTHONPATH.

    Raises
    ------
    InputError
        If an optional dependency of the choice is not installed, or the user's class cannot be imported.
    """
    if name not in table:
        return load_named(table.key, name, "class", "mymodule:MyClass", working_directory)
    choice = table[name]
    module_name, _, attribute = choice.target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if not choice.extra or (error.name or "").startswith("rcdp_hpc"):
            raise
        raise InputError(
            f"{table.key} = {name!r} needs {error.name}, which is not installed: pip install 'rcdp_hpc[{choice.extra}]'"
        ) from None


def leave_out_working_directory() -> None:
    """Take the working directory off the path of modules, unless PYTHONPATH names it in full.

    ``python -m`` puts it there, and so does an empty or relative entry of PYTHONPATH.
    """
    here = os.path.realpath(os.getcwd())
    named = {os.path.realpath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if _is_full(entry)}
    sys.path[:] = [
        entry for entry in sys.path if _is_full(entry) and (os.path.realpath(entry) != here or here in named)
    ]


def _is_full(entry: str) -> bool:
    return os.path.isabs(entry)
