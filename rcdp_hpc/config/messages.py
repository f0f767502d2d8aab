"""What is wrong with a setting, in words: the key, the value, what was expected, and an example."""

from __future__ import annotations

import difflib
from typing import Any

from rcdp_hpc.config.choices import choices_of
from rcdp_hpc.config.keys import default_of, key_types, known_keys, section_names
from rcdp_hpc.config.suggest import did_you_mean
from rcdp_hpc.config.toml_text import SHOWN, shortened

# pydantic's kinds of problems by their first word.
_EXPECTED = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
}

# What other libraries call a key.
_OTHER_NAMES = {
    "lr": "optimizer.learning_rate",
    "batch_size": "training.batch",
    "n_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "max_epochs": "training.epochs",
    "optimiser": "optimizer.kind",
    "units": "reservoir.nodes",
    "n_reservoir": "reservoir.nodes",
    "sr": "reservoir.spectral_radius",
    "leak_rate": "reservoir.leak",
    "leaking_rate": "reservoir.leak",
    "bias": "reservoir.bias_scaling",
    "target": "data.label_column",
    "label": "data.label_column",
    "labels": "data.label_column",
    "sep": "data.delimiter",
    "separator": "data.delimiter",
    "random_state": "run.seed",
}


def did_you_mean_key(key: str) -> str:
    """Return "; did you mean X?" for the configuration's keys nearest to `key`.

    A key with the same last part comes first, then one of the same section, then any.
    """
    section, _, leaf = key.rpartition(".")
    same = [name for name in known_keys() if name.rpartition(".")[2] == leaf or name == f"{leaf}.kind"]
    if same:
        return f"; did you mean {' or '.join(same[:3])}?"
    if leaf in _OTHER_NAMES:
        return f"; did you mean {_OTHER_NAMES[leaf]}?"
    siblings = [name for name in key_types() if name.rpartition(".")[0] == section]
    return (
        _nearest(leaf, siblings, 0.75)
        or did_you_mean(key, [*known_keys(), *section_names()], cutoff=0.8)
        or _nearest(leaf, known_keys(), 0.75)
        or _nearest(leaf, siblings, 0.5)
    )


def _nearest(leaf: str, keys: list[str], cutoff: float) -> str:
    by_leaf = {name.rpartition(".")[2]: name for name in keys}
    close = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=cutoff)
    return f"; did you mean {by_leaf[close[0]]}?" if close else ""


def explain(problem: dict[str, Any]) -> str:
    """Return a problem that pydantic found in a configuration as one message."""
    key = _key(problem["loc"])
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean_key(key) if len(key) <= SHOWN else ""
        return f"{shortened(key)} is not a known key{hint}"
    message = problem["msg"].removeprefix("Value error, ")
    if not key or message.startswith(f"{key}."):  # it names the key of a section that it is about
        return message
    return f"{key} = {shortened(repr(problem.get('input')))}: {_expected(key, problem, message)}"


def _key(location: tuple[int | str, ...]) -> str:
    """Return the dotted key of a problem, without the names of types that pydantic adds."""
    key = ""
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        elif not key or f"{key}.{part}" in key_types() or key in section_names() or key in _parents():
            key += f".{part}" if key else part
    return key


def _parents() -> set[str]:
    return {key.rpartition(".")[0] for key in key_types()} | {name.partition(".")[0] for name in section_names()}


def _expected(key: str, problem: dict[str, Any], message: str) -> str:
    kind, value = problem["type"].partition("_")[0], problem.get("input")
    name = key.partition("[")[0]
    if problem["type"] == "literal_error":
        known = [str(choice) for choice in choices_of(name)]
        listed = ", ".join(known) if known else problem["ctx"]["expected"]
        return f"expected one of {listed}{did_you_mean(str(value), known)}"
    if kind == "model":
        return f"is a section; set its keys, as in {_section_example(name)}"
    if problem["type"] in ("too_short", "too_long") and isinstance(value, list):
        bound = problem["ctx"].get("min_length", problem["ctx"].get("max_length"))
        return f"must have at {'least' if problem['type'] == 'too_short' else 'most'} {bound} entries"
    if problem["type"].endswith(("_type", "_parsing", "_from_float")) and kind in _EXPECTED:
        example = f", as in {name} = [{shortened(repr(value))}]" if kind == "list" else _example(name)
        return f"expected {_EXPECTED[kind]}{_decimal_comma(kind, value)}{example}"
    return f"{message[0].lower()}{message[1:]}"


def _section_example(name: str) -> str:
    if f"{name}.low" in key_types():
        return f"{name} = {{ low = 0.1, high = 1.0 }}"
    return next(key for key in known_keys() if key.startswith(f"{name}."))


def _decimal_comma(kind: str, value: Any) -> str:
    if kind == "float" and isinstance(value, str):
        with_point = value.replace(",", ".")
        try:
            float(with_point)
        except ValueError:
            return ""
        return f" with a decimal point: {with_point}"
    return ""


def _example(key: str) -> str:
    default = default_of(key)
    if default is None or default in ("", []):
        return ""
    shown = str(default).lower() if isinstance(default, bool) else default
    return f", as in {key} = {shown}"
