"""What was asked: the commands, the configuration, versions, seeds and machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcdp_hpc.config import Config, flatten, to_tree
from rcdp_hpc.evaluation.report.html import Html, code, folded, join, paragraph, table, tag
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.evaluation.report.text import STAGE_NAMES, command, counted, moment

SPACE = "search.space."
LIBRARIES = ("torch", "numpy", "blas", "mkl", "gpu")
MOST_CHARACTERS = 300


def asked(files: RunFiles) -> Html:
    """Return the section about the request."""
    parts = [commands(files), configuration(files.settings), _seeds(files), _machines(files), _versions(files)]
    return join(*(part for part in parts if part is not None))


def commands(files: RunFiles) -> Html:
    """Return the last command of each stage, stages with the same command in one row."""
    rows: dict[tuple[str, int], list[str]] = {}
    for stage in files.stages:
        state = files.states[stage]
        if state.get("command"):
            key = (command(*map(str, state["command"])), int(state.get("ranks", 1)))
            rows.setdefault(key, []).append(stage)
    if not rows:
        return paragraph("No command is recorded: the stages were started from Python, or by an earlier version.")
    cells = []
    for (words, ranks), stages in rows.items():
        started = moment(files.states[stages[0]].get("started"))
        cells.append((", ".join(STAGE_NAMES[stage] for stage in stages), code(words), ranks, started))
    return table("The last command of each stage", ("stage", "command", "ranks", "started"), cells, words=(1, 3))


def configuration(settings: Mapping[str, Any]) -> Html | None:
    """Return the keys that differ from their defaults, and all keys to unfold.

    Parameters
    ----------
    settings : mapping of str to object
        Dotted keys of a configuration with their values.
    """
    if not settings:
        return None
    values, defaults = _by_dimension(settings), _by_dimension(flatten(to_tree(Config())))
    changed = {key: value for key, value in values.items() if key not in defaults or defaults[key] != value}
    rows = [
        (key, code(shown(value)), code(shown(defaults[key])) if key in defaults else None)
        for key, value in changed.items()
    ]
    caption = f"{counted(len(changed), 'key')} of {len(values)} with another value than the default"
    differing = table(caption, ("key", "value", "default"), rows, words=(1, 2))
    lines = []
    for key, value in values.items():
        cells = (tag("th", key, scope="row"), tag("td", code(shown(value))))
        lines.append(tag("tr", *cells, class_="changed" if key in changed else None))
    caption = "All keys; those with another value than the default are marked"
    head = tag("thead", tag("tr", tag("th", "key", scope="col"), tag("th", "value", scope="col")))
    complete = tag("table", tag("caption", caption), head, tag("tbody", *lines))
    box = tag("div", complete, class_="scroll", tabindex="0", role="region", aria_label=caption)
    return join(differing, folded(f"the complete configuration, {counted(len(values), 'key')}", box))


def _by_dimension(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the parts of each dimension of the search space as one value."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name, _, part = key.removeprefix(SPACE).partition(".")
        if key.startswith(SPACE) and part:
            found.setdefault(f"{SPACE}{name}", {})[part] = value
        else:
            found[key] = value
    return found


def shown(value: Any) -> str:
    """Return a value of a configuration as in a TOML file; a long one is shortened."""
    if isinstance(value, Mapping):
        parts = (f"{name} = {shown(part)}" for name, part in value.items() if part is not False)
        return f"{{ {', '.join(parts)} }}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ... ({len(text)} characters)"


def _seeds(files: RunFiles) -> Html | None:
    if files.config is None:
        return None
    return paragraph(
        "Seeds: ",
        code(f"run.seed = {files.config.run.seed}"),
        " (split, balancing, search, training), ",
        code(f"reservoir.seed = {files.config.reservoir.seed}"),
        f"; the shards were made with seed {files.config.shard_seed}.",
    )


def _machines(files: RunFiles) -> Html | None:
    """Return each kind of machine, stages on the same kind in one row."""
    rows: dict[tuple[Any, ...], list[str]] = {}
    for stage in files.stages:
        state = files.states[stage]
        recorded = (state.get("result") or {}).get("threads", state.get("threads"))
        threads = (files.summary or {}).get("threads", {}).get(stage, recorded)
        for one in [*state.get("earlier_machines", ()), *state.get("machines", ())]:
            libraries = ", ".join(f"{name} {one[name]}" for name in LIBRARIES if one.get(name))
            variables = ", ".join(f"{name}={value}" for name, value in one.get("variables", {}).items())
            kind = (
                one.get("processor"),
                one.get("capability"),
                libraries,
                variables or None,
                one.get("ranks"),
                threads,
            )
            rows.setdefault(kind, []).append(STAGE_NAMES[stage])
    if not rows:
        return None
    header = ("stage", "processor", "instructions", "libraries", "environment", "ranks", "threads of a rank")
    cells = [(", ".join(dict.fromkeys(stages)), *kind) for kind, stages in rows.items()]
    return table("Kinds of machines that ranks ran on", header, cells, words=(1, 2, 3, 4))


def _versions(files: RunFiles) -> Html | None:
    versions = (files.summary or {}).get("versions", {})
    if not versions:
        return None
    return paragraph("Versions: ", ", ".join(f"{name} {version}" for name, version in versions.items()), ".")
