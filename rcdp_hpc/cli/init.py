"""``rcdp init``: propose a configuration for the user's data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from rcdp_hpc.cli.hints import aligned
from rcdp_hpc.config import DataFacts
from rcdp_hpc.config.kind_defaults import KIND_PROFILES, kind_defaults
from rcdp_hpc.config.toml import escaped
from rcdp_hpc.data.proposal import Proposal, propose
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.files import write_text
from rcdp_hpc.runtime.text import join_lines, plain_line, shell_word


@dataclass(frozen=True)
class TopKey:
    """A key that most users set, with a short explanation.

    Attributes
    ----------
    name : str
        Dotted key.
    meaning : str
    default : object
        The value if neither the data nor their kind decides it; None leaves the key out.
    """

    name: str
    meaning: str
    default: Any = None


TOP_KEYS = (
    TopKey("data.source", "format of the data"),
    TopKey("data.kind", "kind of data; keys that are left out get its defaults"),
    TopKey("data.path", "file or folder of the data"),
    TopKey("data.test_path", "file or folder of the test set"),
    TopKey("data.label_column", "column of the labels"),
    TopKey("data.id_column", "column that names the rows in predictions; it is not a feature"),
    TopKey("data.sequence_column", "rows with the same value in this column form one series"),
    TopKey("data.group_column", "patient, subject or site: rows of one stay on one side of every split; not a feature"),
    TopKey("data.category_columns", "columns of categories"),
    TopKey("data.drop_columns", "columns to ignore"),
    TopKey("data.image_size", "height and width to which images are resized"),
    TopKey("data.missing", "missing values: refuse them, drop the samples, or fill them (median, mean, constant)"),
    TopKey("data.standardize", "scaling: auto uses mean and standard deviation for tables and series", "auto"),
    TopKey("data.balance", "how classes are balanced: smote, random_over, none, ...", "smote"),
    TopKey("data.test_fraction", "fraction of the samples held out for the test, if there is no test set", 0.2),
    TopKey("reservoir.kind", "random: random features of the columns; none: the readout uses the columns directly"),
    TopKey("reservoir.nodes", "neurons of the reservoir: more neurons fit more and need more time"),
    TopKey("search.generations", "rounds of the search for the settings of the reservoir; 0: no search"),
    TopKey("search.population", "candidates per round"),
    TopKey("readout.kind", "ridge, elm: solved in closed form; network, lstm, ...: trained by gradient descent"),
    TopKey("run.seed", "the same seed gives the same result", 1),
)


def init_text(path: Path) -> tuple[str, Proposal]:
    """Return a proposed configuration as TOML, and the proposal with facts and assumptions."""
    proposal = propose(path.expanduser())
    return _toml(proposal), proposal


def write_init(path: Path, target: Path | None) -> str:
    """Propose a configuration for the data at `path`; return the text to print.

    Parameters
    ----------
    path : Path
        File or folder of the data.
    target : Path or None
        File to write; None to print the configuration.

    Raises
    ------
    InputError
        If the data cannot be read, or `target` exists.
    """
    if target is not None and target.exists():
        raise InputError(f"{target}: already exists and is not overwritten. Choose another name for --to.")
    text, proposal = init_text(path)
    if target is None:
        return text
    write_text(target, text)
    command = f"rcdp run {shell_word(target)} --out {shell_word(f'runs/{target.stem}')}"
    hints = aligned([(f"{command} --trial", "a trial of one minute"), (command, "")])
    assumed = [f"assumed: {line}" for line in proposal.assumed]
    return join_lines([*proposal.facts, *assumed, f"wrote {target}", "", "next:", *hints])


def _toml(proposal: Proposal) -> str:
    defaults = kind_defaults(DataFacts(proposal.kind, proposal.sample_shape), {})
    proposed = {"data.kind": proposal.kind, **{f"data.{key}": value for key, value in proposal.settings.items()}}
    document = tomlkit.document()
    document.add(
        tomlkit.comment("The most important keys. `rcdp config FILE` prints this configuration with all keys.")
    )
    profile = KIND_PROFILES[proposal.kind]
    document.add(
        tomlkit.comment(f"The other keys have the values of the profile `{profile}` (`rcdp config {profile}`).")
    )
    for title, lines in (("Data", proposal.facts), ("Assumptions", proposal.assumed)):
        if lines:
            document.add(tomlkit.comment(""))
            document.add(tomlkit.comment(f"{title}:"))
            for line in lines:
                document.add(tomlkit.comment(f"  {plain_line(line)}"))
    section = ""
    for key in TOP_KEYS:
        value = proposed.get(key.name, defaults.get(key.name, key.default))
        if value is None:
            continue
        name, _, leaf = key.name.rpartition(".")
        if name != section:
            section = name
            document.add(tomlkit.nl())
            document.add(name, tomlkit.table())
        table: Any = document[name]
        table.add(tomlkit.comment(key.meaning))
        table.add(leaf, value)
    return escaped(tomlkit.dumps(document))
