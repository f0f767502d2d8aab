"""What to type next, fitted to the user's data; no hint overwrites a file that exists."""

from __future__ import annotations

import itertools
from pathlib import Path

from rcdp_hpc.config import Config, profile_names
from rcdp_hpc.config.choices.sources import source_choice
from rcdp_hpc.runtime.text import join_lines, shell_word


def what_next(command: str, out: Path, config: Config, named: str | None = None) -> str:
    """Return the commands that usually follow a command that ended well.

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
    }.get(command, [(f"rcdp status {run}", "what each stage did"), (predict_command(out, config), "label new samples")])
    if command == "run" and named in profile_names():
        hints.append((f"rcdp config {named} > {shell_word(fresh('my.toml'))}", "a configuration of your own"))
    return "\nnext:\n" + "\n".join(aligned(hints))


def after_trial(named: str | None, out: Path, trial: Path) -> str:
    """Return what a trial was, and the command for all of the data."""
    config = "" if named is None else f"{shell_word(named)} "
    run = shell_word(out)
    hints = [(f"rcdp run {config}--out {run}", "all of the data")]
    if named:
        hints.append((f"rcdp plan {config}".strip(), "how long it takes"))
    lines = [
        f"This was a trial on a share of the data and of the work, in {trial}:",
        "its figures say that everything runs, not how good the result is.",
    ]
    return join_lines(["", *lines, "", "next:", *aligned(hints)])


def predict_command(out: Path, config: Config) -> str:
    """Return the command that labels new samples in the format of the run's source."""
    samples = source_choice(config.data.source).example
    return f"rcdp predict {shell_word(out)} {samples} --to {shell_word(fresh('labels.csv'))}"


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


def fresh(name: str) -> str:
    """Return a file name like `name` that does not exist in the working directory."""
    path = Path(name)
    numbered = (f"{path.stem}-{number}{path.suffix}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if not Path(one).exists())
