"""A configuration as TOML that explains itself."""

from __future__ import annotations

from typing import Any

import tomlkit

from rcdp_hpc.config.search import RangeSection
from rcdp_hpc.config.section import Section
from rcdp_hpc.config.whole import Config


def commented_toml(config: Config) -> str:
    """Return the configuration as TOML with the meaning and bounds of every key beside it."""
    document = tomlkit.document()
    chosen = config.chosen
    document.add(
        tomlkit.comment("Configuration of rcdp_hpc. Every key with its meaning; a key left out takes its default.")
    )
    for name in Config.model_fields:
        section = getattr(config, name)
        document.add(tomlkit.nl())
        document.add(name, _commented_table(section, name, chosen))
    return tomlkit.dumps(document)


def _commented_table(section: Section, prefix: str, chosen: frozenset[str] | None) -> Any:
    """Return a section with comments; a key that waits for the kind of data is a comment itself."""
    table = tomlkit.table()
    table.add(tomlkit.comment((type(section).__doc__ or "").strip().splitlines()[0]))
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, Section) and not isinstance(value, RangeSection):
            table.add(tomlkit.nl())
            table.add(key, _commented_table(value, f"{prefix}.{key}", chosen))
            continue
        table.add(tomlkit.comment(f"{field.description}{_bounds_text(field)}"))
        if value is None:
            table.add(tomlkit.comment(f"{key} = {{ low = ..., high = ... }}"))
        elif chosen is not None and not any(f"{name}.".startswith(f"{prefix}.{key}.") for name in chosen):
            table.add(tomlkit.comment(f"{key} = ... (left out: set when the kind of data is known)"))
        elif isinstance(value, RangeSection):
            table.add(key, tomlkit.inline_table())
            table[key].update(value.model_dump(exclude_none=True))
        else:
            table.add(key, value)
    return table


def _bounds_text(field: Any) -> str:
    words = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    parts = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in words.items()
        if getattr(rule, name, None) is not None
    ]
    return f" ({', '.join(parts)})" if parts else ""
