"""Settings as keyword arguments: ``section__key=value``."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.config import Config


def tree_of(**settings: Any) -> dict[str, Any]:
    """Return the tree of settings; ``section=value`` sets a whole section."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *parents, key = name.split("__")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[key] = value if parents or isinstance(value, dict) else value.model_dump()
    return tree


def config_of(**settings: Any) -> Config:
    """Return a configuration without a search; rules between settings are not checked."""
    tree, fields = {"search": {"generations": 0}, **tree_of(**settings)}, Config.model_fields
    return Config.model_construct(**{name: fields[name].annotation.model_validate(keys) for name, keys in tree.items()})


def changed(config: Config, **settings: Any) -> Config:
    """Return a configuration with other values of single keys; rules between settings are not checked."""
    update = {name: getattr(config, name).model_copy(update=keys) for name, keys in tree_of(**settings).items()}
    return config.model_copy(update=update)
