"""Keys that only some choices use: the note in their comments, and a warning about those that have no effect."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from rcdp_hpc.config.choices import TABLES, ChoiceTable
from rcdp_hpc.config.keys import default_of, flatten, to_tree
from rcdp_hpc.config.root import Config

log = logging.getLogger(__name__)

# Keys that say what the other keys of their section are about: a note names their values alone.
_KINDS = ("kind", "source")

# The others need not be searched.
_WITH_KEYS = [table for table in TABLES.values() if any(choice.keys for choice in table)]


def usage_note(key: str) -> str:
    """Return the choices that use a dotted key, such as "csv, parquet" or "topology = ring"; empty if all do."""
    return "; ".join(_note(table, key, users) for table in _WITH_KEYS if (users := table.users_of(key)))


def _note(table: ChoiceTable, key: str, users: list[str]) -> str:
    section, _, leaf = table.key.rpartition(".")
    names = ", ".join(users)
    if section != key.rpartition(".")[0]:
        return f"{table.key} = {names}"
    return names if leaf in _KINDS else f"{leaf} = {names}"


def warn_of_unused(config: Config, keys: Iterable[str]) -> None:
    """Log a warning about settings that have no effect with the choices of a configuration.

    Parameters
    ----------
    config : Config
    keys : iterable of str
        Dotted keys that the user has set. Those with their default value are left out.
    """
    values = flatten(to_tree(config))
    for key in keys:
        if key in values and values[key] != default_of(key):
            for problem in _unused(key, values):
                log.warning("%s = %r has no effect; it is used with %s", key, values[key], problem)


def _unused(key: str, values: dict[str, Any]) -> Iterator[str]:
    for table in TABLES.values():
        users = table.users_of(key)
        chosen = values[table.key] if isinstance(values[table.key], list) else [values[table.key]]
        # The keys that a class of the user's own reads are not known.
        if users and all(name in table and name not in users for name in chosen):
            yield f"{table.key} = {' or '.join(filter(None, [', '.join(users[:-1]), users[-1]]))}"
