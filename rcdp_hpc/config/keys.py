"""The dotted keys of the configuration, and which settings two of them differ in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rcdp_hpc.config.root import Config
from rcdp_hpc.config.search import RangeSection
from rcdp_hpc.errors import InputError


def _fields(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for key, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _fields(annotation, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", field


@cache
def _all_fields() -> tuple[tuple[str, FieldInfo], ...]:
    """Return every dotted key with its field. A run asks for them thousands of times."""
    return tuple(_fields())


def known_keys() -> list[str]:
    """Return every dotted key of the configuration."""
    return [name for name, _ in _all_fields()]


def marked_keys(mark: str) -> list[str]:
    """Return the dotted keys whose fields carry a mark, such as "path" or "may_change"."""
    return [name for name, field in _all_fields() if _has(field, mark)]


def section_names() -> list[str]:
    """Return the dotted names of all sections."""
    return list(dict.fromkeys(key.rpartition(".")[0] for key in known_keys()))


@cache
def key_types() -> dict[str, Any]:
    """Return the type of every dotted key, the parts of a dimension of the search space included."""
    found: dict[str, Any] = {}
    for name, field in _all_fields():
        found[name] = field.annotation
        if field.annotation == RangeSection | None:
            found.update({f"{name}.{part}": inner.annotation for part, inner in RangeSection.model_fields.items()})
    return found


def default_of(key: str) -> Any:
    """Return the default of a dotted key; None if it has none."""
    for name, field in _all_fields():
        if name == key:
            return field.get_default(call_default_factory=True)
    return None


def _has(field: FieldInfo, mark: str) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get(mark))


def to_tree(config: Config) -> dict[str, Any]:
    """Return the settings as nested plain dicts, keys without a value left out."""
    return config.model_dump(exclude_none=True)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def chosen_keys(tree: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the dotted keys that a tree of settings holds; None if it holds every key there is.

    The dimensions of the search space are optional and do not count.
    """
    chosen = frozenset(flatten(tree))
    needed = {name for name, field in _all_fields() if not name.startswith("search.space.")}
    return None if needed <= chosen else chosen


@cache
def may_change(key: str) -> bool:
    """Tell whether the value of a dotted key may differ when a stage is resumed."""
    for name, field in _all_fields():
        if name == key or key.startswith(name + "."):
            return _has(field, "may_change")
    return False


def differing_keys(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys of two settings trees whose values differ, sorted."""
    old, new = flatten(recorded), flatten(current)
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def refuse_other_settings(where: str, recorded: Mapping[str, Any], current: Mapping[str, Any], section: str) -> None:
    """Raise an `InputError` where results were made with other settings than the present ones.

    Keys that may change on resume are let through, and keys that the version which recorded the settings did not have,
    if they have their default: that is what the earlier version did.

    Parameters
    ----------
    where : str
        What recorded the settings, for the message.
    recorded, current : mapping
        Settings trees.
    section : str
        The section whose keys that may change are named in the message.
    """
    old, new = flatten(recorded), flatten(current)
    differing = [key for key in differing_keys(recorded, current) if not may_change(key)]
    fixed = [key for key in differing if key in old or new[key] != default_of(key)]
    if not fixed:
        return
    changes = ", ".join(f"{key} ({old.get(key, 'not set')} -> {new.get(key, 'not set')})" for key in fixed)
    free = [key for key in known_keys() if key.startswith(f"{section}.") and may_change(key)]
    hint = f" Of this section only {', '.join(free)} may change on resume." if free else ""
    raise InputError(
        f"{where} was made with other settings: {changes}.{hint} Set them back, choose another --out, or start this "
        "stage over with --restart, which puts the earlier results aside."
    )


def settings_that_matter(config: Config, sections: Iterable[str]) -> dict[str, Any]:
    """Return sections of the configuration without the keys that may change when a stage is resumed."""
    tree = to_tree(config)
    return {
        section: {key: value for key, value in tree[section].items() if not may_change(f"{section}.{key}")}
        for section in sections
    }
