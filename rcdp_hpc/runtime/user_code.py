"""Code of the user's own, named in the configuration as module:name."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from rcdp_hpc.errors import InputError


def load_named(key: str, name: str, kind: str, example: str) -> Any:
    """Import what is named ``module:name``; the working directory is looked in as well.

    Parameters
    ----------
    key, name : str
        The configuration's key, and its value.
    kind : {"function", "class"}
        What is expected.
    example : str
        A value that would do.

    Raises
    ------
    InputError
        If there is no such module, or nothing callable of this name in it.
    """
    module_name, separator, own_name = name.partition(":")
    if not (separator and module_name and own_name):
        raise InputError(f"{key} = {name!r}: expected module:{kind}, as in {example}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises on import
        raise InputError(
            f"{key} = {name!r}: module {module_name} cannot be imported ({type(error).__name__}: {error}); "
            f"it is looked for in PYTHONPATH and in {os.getcwd()}"
        ) from None
    found = getattr(module, own_name, None)
    if not callable(found):
        raise InputError(f"{key} = {name!r}: module {module_name} has no {kind} {own_name}")
    return found
