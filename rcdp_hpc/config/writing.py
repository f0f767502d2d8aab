"""A configuration as TOML that explains itself."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import tomlkit

from rcdp_hpc.config.choices import choices_of
from rcdp_hpc.config.kind_defaults import KIND_KEYS
from rcdp_hpc.config.search import RangeSection
from rcdp_hpc.config.section import Section
from rcdp_hpc.config.whole import Config

WIDTH = 80


def commented_toml(config: Config) -> str:
    """Return the configuration as TOML with the meaning, choices, bounds and default of every key above it."""
    document = tomlkit.document()
    _comment(document, "Configuration of rcdp_hpc. A key that is left out takes its default.")
    for name in Config.model_fields:
        document.add(tomlkit.nl())
        document.add(name, _commented_table(getattr(config, name), name, config.chosen))
    return tomlkit.dumps(document)


def _commented_table(section: Section, name: str, chosen: frozenset[str] | None) -> Any:
    """Return a section with comments; a key that waits for the kind of data is a comment itself."""
    table = tomlkit.table()
    _comment(table, (type(section).__doc__ or "").strip().splitlines()[0])
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        table.add(tomlkit.nl())
        if isinstance(value, Section) and not isinstance(value, RangeSection):
            table.add(key, _commented_table(value, f"{name}.{key}", chosen))
            continue
        _comment(table, f"{field.description}{_facts(field)}")
        choices = choices_of(f"{name}.{key}")
        for choice, meaning in choices.items():
            _comment(table, meaning, label=f"  {choice:<{max(len(str(one)) for one in choices)}}  ")
        if value is None:
            _comment(table, f"{key} = {{ low = ..., high = ... }}")
        elif chosen is not None and not any(f"{one}.".startswith(f"{name}.{key}.") for one in chosen):
            waits = any(f"{one}.".startswith(f"{name}.{key}.") for one in KIND_KEYS)
            shown = "... (left out: set when the kind of data is known)" if waits else toml_text(value)
            table.add(tomlkit.comment(f"{key} = {shown}"))
        elif isinstance(value, RangeSection):
            table.add(key, tomlkit.inline_table())
            table[key].update(value.model_dump(exclude_none=True))
        else:
            table.add(key, value)
    return table


def _comment(table: Any, text: str, label: str = "") -> None:
    """Add a comment that fits `WIDTH` columns; lines after the first are indented like the text."""
    # A bound such as ">= 1" stays on one line.
    lines = textwrap.wrap(
        re.sub(r"([<>]=?) ", "\\1\u00a0", text),
        WIDTH - 2,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines:
        table.add(tomlkit.comment(line.replace("\u00a0", " ")))


def _facts(field: Any) -> str:
    """Return the bounds and the default of a key in brackets."""
    facts = bounds(field)
    default = field.get_default(call_default_factory=True)
    if default is not None:
        facts.append(f"default {toml_text(default)}")
    return f" ({'; '.join(facts)})" if facts else ""


def bounds(field: Any) -> list[str]:
    """Return the bounds of a key's value, such as ">= 1"."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in signs.items()
        if getattr(rule, name, None) is not None
    ]


def toml_text(value: Any) -> str:
    """Return a value as TOML writes it."""
    return tomlkit.item(value).as_string()
