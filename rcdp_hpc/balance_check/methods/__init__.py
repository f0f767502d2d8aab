"""The ways with uneven classes that are compared, one file each (table: `rcdp_hpc.config.choices.check_methods`)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from rcdp_hpc.balance_check.methods.base import Method
from rcdp_hpc.config.choices.check_methods import CHECK_METHODS


def load_methods(names: Sequence[str] = ()) -> list[Method]:
    """Return the methods with these names, by default all, in the order of the table."""
    methods = []
    for choice in CHECK_METHODS:
        if not names or choice.name in names:
            module, _, name = choice.target.partition(":")
            methods.append(getattr(import_module(module), name)(str(choice.name), choice.meaning))
    return methods
