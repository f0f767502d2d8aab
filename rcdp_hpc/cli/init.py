"""``rcdp init``: a configuration proposed from a look at the data."""

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
    """A key that matters most, with a sentence for someone who meets it for the first time.

    Attributes
    ----------
    name : str
        Dotted key.
    meaning : str
    default : object
        What is written if neither the look at the data nor the kind of data decides; None leaves the key out.
    """

    name: str
    meaning: str
    default: Any = None


TOP_KEYS = (
    TopKey("data.source", "format of the data"),
    TopKey("data.kind", "kind of data: keys that are left out take its defaults"),
    TopKey("data.path", "file or folder of the data"),
    TopKey("data.test_path", "file or folder of the test set"),
    TopKey("data.label_column", "column of the labels"),
    TopKey("data.id_column", "column that names the rows in predictions; it is not a feature"),
    TopKey("data.group_column", "column that tells which rows form one series"),
    TopKey("data.category_columns", "columns of categories, which are numbered"),
    TopKey("data.drop_columns", "columns that are not read"),
    TopKey("data.image_size", "height and width that images are brought to"),
    TopKey("data.missing", "what a missing value does: refuse, drop the sample, or fill with the training mean"),
    TopKey("data.standardize", "features on one scale: auto takes mean and deviation for tables and series", "auto"),
    TopKey("data.balance", "how uneven classes are balanced: smote, random_over, none, ...", "smote"),
    TopKey("data.test_fraction", "share of the samples held out as the test, if there is no test set", 0.2),
    TopKey("reservoir.kind", "random: a layer of random features; none: a linear readout of the columns themselves"),
    TopKey("reservoir.nodes", "neurons of the reservoir: more fit more, and take longer"),
    TopKey("search.generations", "rounds of the search for the reservoir's settings; 0 searches nothing"),
    TopKey("search.population", "candidates in each round"),
    TopKey("readout.kind", "ridge is solved at once; network, lstm, ... are trained by gradient"),
    TopKey("run.seed", "the same seed gives the same answer; try several", 1),
)


def init_text(path: Path) -> tuple[str, Proposal]:
    """Return a proposed configuration as TOML, and what it is based on."""
    found = propose(path.expanduser())
    return _toml(found), found


def write_init(path: Path, target: Path | None) -> str:
    """Propose a configuration for the data at `path`; return what to print.

    Parameters
    ----------
    path : Path
        File or folder of the data.
    target : Path or None
        File to write; None prints the configuration itself.

    Raises
    ------
    InputError
        If the data cannot be read, or `target` exists.
    """
    if target is not None and target.exists():
        raise InputError(f"{target}: exists and is not overwritten. Choose another name for --to.")
    text, found = init_text(path)
    if target is None:
        return text
    write_text(target, text)
    command = f"rcdp run {shell_word(target)} --out {shell_word(f'runs/{target.stem}')}"
    hints = aligned([(f"{command} --trial", "try it for a minute"), (command, "")])
    assumed = [f"assumed: {line}" for line in found.assumed]
    return join_lines([*found.facts, *assumed, f"wrote {target}", "", "next:", *hints])


def _toml(found: Proposal) -> str:
    defaults = kind_defaults(DataFacts(found.kind, found.sample_shape), {})
    given = {"data.kind": found.kind, **{f"data.{key}": value for key, value in found.settings.items()}}
    document = tomlkit.document()
    document.add(
        tomlkit.comment("The keys that matter most. `rcdp config FILE` prints this configuration with all keys.")
    )
    profile = KIND_PROFILES[found.kind]
    document.add(
        tomlkit.comment(f"Those left out take the values of the profile `{profile}` (`rcdp config {profile}`).")
    )
    for title, lines in (("What is there", found.facts), ("What is assumed", found.assumed)):
        if lines:
            document.add(tomlkit.comment(""))
            document.add(tomlkit.comment(f"{title}:"))
            for line in lines:
                document.add(tomlkit.comment(f"  {plain_line(line)}"))
    section = ""
    for key in TOP_KEYS:
        value = given.get(key.name, defaults.get(key.name, key.default))
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
