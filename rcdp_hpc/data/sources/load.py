"""Instantiate the reader that ``data.source`` names, and call it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rcdp_hpc.config.choices import SOURCES, is_user_class
from rcdp_hpc.data.sources.reader import SourceReader
from rcdp_hpc.errors import InputError, RcdpError
from rcdp_hpc.runtime.user_code import load_choice

Answer = TypeVar("Answer")


def make_reader(name: str, working_directory: bool = True) -> SourceReader:
    """Return an instance of the reader that ``data.source`` names.

    Parameters
    ----------
    name : str
        A name of the table `rcdp_hpc.config.choices.SOURCES`, or ``module:Class``.
    working_directory : bool
        Search the working directory for a user's module, too.

    Raises
    ------
    InputError
        If the class cannot be imported, is not a `SourceReader`, or cannot be instantiated without arguments.
    """
    reader = load_choice(SOURCES, name, working_directory)
    if not (isinstance(reader, type) and issubclass(reader, SourceReader)):
        what = f"the class {reader.__qualname__}" if isinstance(reader, type) else f"a {type(reader).__name__}"
        raise InputError(
            f"{SOURCES.key} = {name!r}: expected a class derived from rcdp_hpc.data.sources.SourceReader, not {what}."
        )
    return call_reader(name, "__init__", reader)  # type: ignore[no-any-return]


def call_reader(name: str, method: str, call: Callable[[], Answer]) -> Answer:
    """Return what a reader's method returns; an unexpected exception of a user's class becomes an `InputError`."""
    try:
        return call()
    except RcdpError:
        raise
    except (Exception, SystemExit) as error:  # a user's class may raise anything
        if not is_user_class(name):
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = "" if method == "__init__" else f"; {Path(frame.filename).name}, line {frame.lineno}"
        raise broken_contract(name, method, f"failed ({type(error).__name__}: {error}{place})") from None


def broken_contract(name: str, what: str, reason: str) -> InputError:
    """Return the error of a reader that does not keep to the contract of `SourceReader`."""
    return InputError(f"{SOURCES.key} = {name!r}: {what}: {reason} (docs/extending.md).")
