"""A configuration as TOML that explains itself."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from functools import cache
from typing import Any

import tomlkit

from rcdp_hpc.config.choices import choices_of
from rcdp_hpc.config.keys import flatten, to_tree
from rcdp_hpc.config.kind_defaults import EXAMPLE_SHAPES, KIND_KEYS, example_defaults
from rcdp_hpc.config.root import Config
from rcdp_hpc.config.search import RangeSection
from rcdp_hpc.config.section import Section
from rcdp_hpc.config.usage import usage_note

WIDTH = 80
_UNSEEN = ("Cc", "Cf", "Zl", "Zp")


def commented_toml(config: Config) -> str:
    """Return the configuration as TOML with the meaning, choices, bounds and default of every key above it."""
    lines = _comment("Configuration of rcdp_hpc. A key that is left out takes its default.")
    kind = config.data.kind
    if config.chosen is not None and kind != "auto":
        shape = " x ".join(map(str, EXAMPLE_SHAPES[kind][0]))
        text = f"Keys that are comments take the defaults of data.kind = '{kind}', which are shown"
        lines += _comment(f"{text}; those marked * follow the shape of a sample, here {shape}.")
    waiting = _Waiting(config)
    for name in Config.model_fields:
        lines += ["", *_section_lines(getattr(config, name), name, waiting)]
    return escaped("".join(f"{line}\n" for line in lines))


def escaped(text: str) -> str:
    r"""Return TOML in which characters that an editor or terminal would obey or not show are written as \uXXXX.

    Values stay what they are: tomlkit writes all of them in double quotes, in which TOML reads such escapes.
    """
    return "\n".join(line if line.isprintable() else _escaped_line(line) for line in text.split("\n"))


def _escaped_line(line: str) -> str:
    return "".join(
        f"\\U{ord(character):08x}" if unicodedata.category(character) in _UNSEEN else character for character in line
    )


class _Waiting:
    """The keys that a file leaves out, and what to show for them.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config) -> None:
        self.chosen = config.chosen
        self.defaults: dict[str, Any] = {}
        self.by_shape: set[str] = set()
        if self.chosen is not None and config.data.kind != "auto":
            settings = {key: value for key, value in flatten(to_tree(config)).items() if key in self.chosen}
            self.defaults, self.by_shape = example_defaults(config.data.kind, settings)

    def is_left_out(self, key: str) -> bool:
        return self.chosen is not None and not any(f"{one}.".startswith(f"{key}.") for one in self.chosen)

    def shown(self, key: str, value: Any) -> str:
        """Return the text of a key that is left out, which takes `value` unless the kind of data decides."""
        if not self.defaults and any(f"{one}.".startswith(f"{key}.") for one in KIND_KEYS):
            return "... (left out: set when the kind of data is known)"
        value = self.defaults.get(key, value)
        text = "{ low = ..., high = ... }" if value is None else _inline(value)
        return text + ("  # *" if key in self.by_shape else "")


def _inline(value: Any) -> str:
    if isinstance(value, RangeSection):
        value = value.model_dump(exclude_none=True)
    if not isinstance(value, dict):
        return toml_text(value)
    table = tomlkit.inline_table()
    table.update(value)
    return table.as_string()


def _section_lines(section: Section, name: str, waiting: _Waiting) -> list[str]:
    """Return a section with comments; a key that waits for the kind of data is a comment itself."""
    lines = [f"[{name}]", *_comment((type(section).__doc__ or "").strip().splitlines()[0])]
    for key, field in type(section).model_fields.items():
        value, dotted = getattr(section, key), f"{name}.{key}"
        lines.append("")
        if isinstance(value, Section) and not isinstance(value, RangeSection):
            lines += _section_lines(value, dotted, waiting)
            continue
        lines += _comment(f"{field.description}{_facts(field, dotted, dotted not in waiting.defaults)}")
        choices = choices_of(dotted)
        for choice, meaning in choices.items():
            lines += _comment(meaning, label=f"  {choice:<{max(len(str(one)) for one in choices)}}  ")
        if value is None or waiting.is_left_out(dotted):
            lines.append(f"# {key} = {waiting.shown(dotted, value)}")
        else:
            lines.append(f"{key} = {_inline(value)}")
    return lines


@cache
def _wrapped(text: str, label: str) -> tuple[str, ...]:
    """Return the lines of a comment that fits `WIDTH` columns. A run writes the same comments several times."""
    # A bound such as ">= 1" stays on one line.
    lines = textwrap.wrap(
        re.sub(r"([<>]=?) ", "\\1\u00a0", text),
        WIDTH - 2,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return tuple(f"# {line}".replace("\u00a0", " ") for line in lines)


def _comment(text: str, label: str = "") -> list[str]:
    """Return a comment; lines after the first are indented like the text."""
    return list(_wrapped(text, label))


def _facts(field: Any, key: str, with_default: bool) -> str:
    """Return who uses a key, its bounds and its default in brackets; the kind of data may have another default."""
    facts = [*filter(None, [usage_note(key)]), *bounds(field)]
    default = field.get_default(call_default_factory=True) if with_default else None
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
    return escaped(tomlkit.item(value).as_string())
