"""Suggestions for the next command. They never name an existing file as output."""

from __future__ import annotations

import itertools
from pathlib import Path

from rcdp_hpc.config import Config, profile_names
from rcdp_hpc.config.choices.sources import source_choice
from rcdp_hpc.runtime.text import join_lines, shell_word


def what_next(command: str, out: Path, config: Config, named: str | None = None) -> str:
    """Return the commands that usually follow a successful command.

    Parameters
    ----------
    command : str
        A stage or ``run``.
    out : Path
        The run directory.
    config : Config
    named : str, optional
        The configuration that the command named.
    """
    run = shell_word(out)
    following = "search" if config.has_search else "train"
    hints = {
        "prepare": [(f"rcdp verify {run}", "check the shards"), (f"mpirun -n 2 rcdp {following} --out {run}", "")],
        "search": [(f"mpirun -n 2 rcdp train --out {run}", "")],
        "train": [(f"mpirun -n 2 rcdp evaluate --out {run}", "")],
    }.get(command, [(f"rcdp status {run}", "results of each stage"), (predict_command(out, config), "label new data")])
    if command == "run" and named in profile_names():
        hints.append((f"rcdp config {named} > {shell_word(unused_name('my.toml'))}", "begin your own configuration"))
    return "\nnext:\n" + "\n".join(aligned(hints))


def after_trial(named: str | None, out: Path, trial: Path) -> str:
    """Return a note about a finished trial, and the command for the full run."""
    config = "" if named is None else f"{shell_word(named)} "
    run = shell_word(out)
    hints = [(f"rcdp run {config}--out {run}", "the full run")]
    if named:
        hints.append((f"rcdp plan {config}".strip(), "how long the full run takes"))
    lines = [
        f"This was a trial with a part of the data and of the work, in {trial}.",
        "It shows that all stages run; the full run will have another accuracy.",
    ]
    return join_lines(["", *lines, "", "next:", *aligned(hints)])


def predict_command(out: Path, config: Config) -> str:
    """Return the command that labels new samples, in the format of the source of the run."""
    samples = source_choice(config.data.source).example
    return f"rcdp predict {shell_word(out)} {samples} --to {shell_word(unused_name('labels.csv'))}"


def aligned(hints: list[tuple[str, str]]) -> list[str]:
    """Return commands with their meanings as shell comments, on the same line if they fit 80 columns."""
    width = max(len(command) for command, _ in hints)
    lines = []
    for command, meaning in hints:
        if meaning and width + len(meaning) + 6 <= 80:
            lines.append(f"  {command:<{width}}  # {meaning}")
        else:
            lines += [f"  # {meaning}"] if meaning else []
            lines.append(f"  {command}")
    return lines


def unused_name(name: str) -> str:
    """Return a file name similar to `name` that does not exist in the working directory."""
    path = Path(name)
    numbered = (f"{path.stem}-{number}{path.suffix}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if not Path(one).exists())
