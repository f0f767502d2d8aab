"""The reference page of the configuration: ``python -m rcdp_hpc.config.reference > docs/configuration.md``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from rcdp_hpc.config.choices import choices_of
from rcdp_hpc.config.root import Config
from rcdp_hpc.config.search import RangeSection
from rcdp_hpc.config.section import Section
from rcdp_hpc.config.toml import bounds, toml_text
from rcdp_hpc.config.usage import usage_note

WIDTH = 120
INTRODUCTION = """\
# Configuration

<!-- Generated: python -m rcdp_hpc.config.reference > docs/configuration.md -->

A configuration is a TOML file of sections, or the name of a shipped profile. `rcdp config PROFILE` prints one with
the meaning, choices, bounds and default of every key; a key that is left out takes its default.

    rcdp config digits > my.toml
    rcdp run my.toml --out runs/first --set training.epochs=20

`--set SECTION.KEY=VALUE` changes one key. A key of text takes the value as it is (`--set data.label_column=3` names
the column "3"; quotes around the value are removed). A list needs no brackets (`--set data.drop_columns=id,date`);
quote an entry that holds a comma. Other values are written as in TOML.

Paths may begin with `~`. A relative path is relative to the working directory of the command; the run directory
records it as an absolute path. TOML files are UTF-8; a byte order mark and Windows line ends are accepted.

Keys marked "may change" can differ when a stage is resumed. All others are part of the result: a stage that finds
results of other values refuses to continue with them.
"""


def reference_page() -> str:
    """Return the page: every section and key with its meaning, default, bounds and choices."""
    lines = [INTRODUCTION]
    for name, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        lines += _section(name, field.annotation)
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, section: type[Section]) -> Iterator[str]:
    yield f"## [{name}]\n"
    yield f"{(section.__doc__ or '').strip().splitlines()[0]}\n"
    inner = []
    for key, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            inner.append((f"{name}.{key}", field.annotation))
        else:
            yield from _key(f"{name}.{key}", field)
    yield ""
    for inner_name, inner_section in inner:
        yield from _section(inner_name, inner_section)


def _key(name: str, field: FieldInfo) -> Iterator[str]:
    yield _item(f"- **`{name.rpartition('.')[2]}`** ({_facts(field, name)}): {field.description}", "  ")
    for choice, meaning in choices_of(name).items():
        yield _item(f"  - `{choice}`: {meaning}", "    ")


def _item(text: str, indent: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _facts(field: FieldInfo, key: str) -> str:
    default = field.get_default(call_default_factory=True)
    facts = [*filter(None, [usage_note(key)]), *bounds(field)]
    if field.annotation == RangeSection | None:
        facts.append("a range `{ low = ..., high = ... }` or `{ choices = [...] }`; not searched by default")
    elif default is not None:
        facts.append(f"default `{toml_text(default)}`")
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("may_change"):
        facts.append("may change")
    return "; ".join(facts)


if __name__ == "__main__":
    print(reference_page(), end="")
