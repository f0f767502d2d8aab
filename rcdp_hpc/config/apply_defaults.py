"""Settings that wait for the kind of data: keys that a user's file leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcdp_hpc.config.keys import flatten, to_tree
from rcdp_hpc.config.kind_defaults import DataFacts, kind_defaults
from rcdp_hpc.config.load import parse_config
from rcdp_hpc.config.root import Config
from rcdp_hpc.config.usage import warn_of_unused


def with_kind_defaults(config: Config, facts: DataFacts) -> Config:
    """Return the configuration with every key that its file leaves out set to the default for the kind of data.

    Parameters
    ----------
    config : Config
        As `load_config` read it. A complete one is returned as it is.
    facts : DataFacts
        Kind and shape of the data.

    Raises
    ------
    InputError
        If a default contradicts what the file sets.
    """
    complete = completed_quietly(config, facts)
    if config.chosen is not None:
        warn_of_unused(complete, sorted(config.chosen))
    return complete


def completed_quietly(config: Config, facts: DataFacts) -> Config:
    """Return what `with_kind_defaults` returns without a warning of settings that have no effect.

    Some methods of a comparison use settings that others do not.
    """
    if config.chosen is None:
        return config
    settings = {key: value for key, value in flatten(to_tree(config)).items() if key in config.chosen}
    where = f"(defaults for data of the kind '{facts.kind}' included)"
    return with_settings(config, kind_defaults(facts, settings), where).with_chosen(None)


def with_settings(config: Config, changes: Mapping[str, Any], where: str) -> Config:
    """Return the configuration with some settings changed, as if its file had them.

    Parameters
    ----------
    config : Config
    changes : mapping
        Values by dotted key.
    where : str
        Names the origin of the settings in messages.

    Raises
    ------
    InputError
        If the settings are not accepted.
    """
    tree = to_tree(config)
    for key, value in changes.items():
        *sections, leaf = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    return parse_config(tree, where, None if config.chosen is None else config.chosen | set(changes))
