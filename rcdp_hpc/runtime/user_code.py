"""Import of implementations: the package's own, and the user's, which a configuration names as module:name."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from rcdp_hpc.config.choices import ChoiceTable
from rcdp_hpc.errors import InputError


def load_named(key: str, name: str, kind: str, example: str, working_directory: bool = True) -> Any:
    """Import a function or class of the user.

    `rcdp_hpc.runtime.code_consent` decides earlier whether the code may be run.

    Parameters
    ----------
    key : str
        Configuration key, for messages.
    name : str
        Value of the key, ``module:name``.
    kind : {"function", "class"}
        Expected kind of object, for messages.
    example : str
        A valid value, for messages.
    working_directory : bool
        Whether to search the working directory, after PYTHONPATH.

    Raises
    ------
    InputError
        If the module cannot be imported, or has no callable of this name.
    """
    module_name, separator, attribute = name.partition(":")
    if not (separator and module_name and attribute):
        raise InputError(f"{key} = {name!r}: expected module:{kind}, as in {example}")
    if working_directory and module_name not in sys.modules and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the user's module may raise any error on import
        where = f"PYTHONPATH and in {os.getcwd()}" if working_directory else "PYTHONPATH"
        raise InputError(
            f"{key} = {name!r}: module {module_name} cannot be imported ({type(error).__name__}: {error}); "
            f"it is looked for in {where}"
        ) from None
    implementation = getattr(module, attribute, None)
    if not callable(implementation):
        raise InputError(f"{key} = {name!r}: module {module_name} has no {kind} {attribute}")
    return implementation


def load_choice(table: ChoiceTable, name: str, working_directory: bool = True) -> Any:
    """Import the implementation of a choice: the package's own, or the user's class ``module:Class``.

    `rcdp_hpc.runtime.code_consent` decides earlier whether the user's code may be run.

    Parameters
    ----------
    table : ChoiceTable
        The choices of the kind.
    name : str
        A value of ``table.key`` that the table accepts.
    working_directory : bool
        Whether to search the working directory for a user's module, after PYTHONPATH.

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
    """Remove the working directory from the module search path, unless PYTHONPATH has its absolute path.

    ``python -m`` adds it to the search path, and so does an empty or relative entry of PYTHONPATH.
    """
    here = os.path.realpath(os.getcwd())
    named = {os.path.realpath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if _is_full(entry)}
    sys.path[:] = [
        entry for entry in sys.path if _is_full(entry) and (os.path.realpath(entry) != here or here in named)
    ]


def _is_full(entry: str) -> bool:
    return os.path.isabs(entry)
