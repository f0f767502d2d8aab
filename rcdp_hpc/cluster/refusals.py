"""Why sbatch refused a job, and which line of the site file or option of the command to change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rcdp_hpc.cluster.scripts import SITE_LISTS, Stage, site_lists
from rcdp_hpc.runtime.text import shell_word

_SIZE = ("--nodes", "--ntasks", "--ntasks-per-node", "--cpus-per-task", "--exclusive")
_MEMORY = ("--mem", "--mem-per-cpu", "--mem-per-gpu")
_DEVICES = ("--gres", "--gpus", "--gpus-per-task", "--gpus-per-node", "--gpus-per-socket")
# What sbatch's words are about -> the options that decide it. The first match counts.
_ABOUT = (
    (r"account", ("--account", "--partition")),
    (r"partition", ("--partition",)),
    (r"qos", ("--qos", "--account", "--time", *_SIZE)),
    (r"time ?limit", ("--time", "--partition")),
    (r"memory", (*_MEMORY, "--cpus-per-task")),
    (r"gres|gpu|generic resource|tres", _DEVICES),
    (r"feature|constraint", ("--constraint",)),
    (r"reservation", ("--reservation",)),
    (r"licenses?\b", ("--licenses",)),
    (r"node|cpu|processor|task|core", (*_SIZE, *_MEMORY, *_DEVICES, "--constraint", "--partition")),
)
_SHORT = {
    "-A": "--account", "-C": "--constraint", "-G": "--gpus", "-L": "--licenses", "-N": "--nodes",
    "-c": "--cpus-per-task", "-n": "--ntasks", "-p": "--partition", "-q": "--qos", "-t": "--time",
}  # fmt: skip


def lines_to_change(words: str, stage: Stage, text: str, site: Path, extra: Sequence[str]) -> list[str]:
    """Return what to change, a line for each option that sbatch's words may be about, and where it is set.

    Parameters
    ----------
    words : str
        What sbatch printed.
    stage : str
    text : str
        The job's script.
    site : Path
        The site file.
    extra : sequence of str
        Options of the command line (``--sbatch``), which win over all others.
    """
    settings = _settings(stage, text, site, extra)
    about = [name for name in re.findall(r"--[a-z][a-z-]+", words) if name in settings]
    about = about or [name for name in _options_of(words) if name in settings]
    if about:
        return [f"{settings[name][0]}   {settings[name][1]}" for name in dict.fromkeys(about)]
    return [f"{SITE_LISTS[stage]} or EVERY_JOB of {site}, which hold the options of this job"]


def _options_of(words: str) -> tuple[str, ...]:
    return next((options for pattern, options in _ABOUT if re.search(pattern, words, re.IGNORECASE)), ())


def _settings(stage: Stage, text: str, site: Path, extra: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return each option of a job as it is written, and in words where that is; what counts comes last."""
    found: dict[str, tuple[str, str]] = {}
    scripted = re.findall(r"^#SBATCH (.+)$", text, re.MULTILINE)
    for name, option in _named(scripted):
        found[name] = (option, f"is the default: put another one into {SITE_LISTS[stage]}=() of {site}")
    for variable, options in site_lists(site, stage).items():
        for name, option in _named(options):
            found[name] = (option, f"in {variable} of {site}{_line(site, variable, option)}")
    for name, option in _named(extra):
        found[name] = (option, f"of the command line: --sbatch={shell_word(option)}")
    return found


def _named(options: Sequence[str]) -> list[tuple[str, str]]:
    """Return the long name of each option, and the option as it is written, with its value."""
    named = []
    for at, option in enumerate(options):
        name = option.partition("=")[0]
        if not option.startswith("-"):
            continue
        if not option.startswith("--"):
            name = _SHORT.get(option[:2], option[:2])
        after = options[at + 1] if at + 1 < len(options) else "-"
        bare = "=" not in option and (option.startswith("--") or len(option) == 2)
        named.append((name, f"{option} {after}" if bare and not after.startswith("-") else option))
    return named


def _line(site: Path, variable: str, option: str) -> str:
    """Return the number of the line in the site file that holds an option; the list's own if it is put together."""
    text = site.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [(number, line) for number, line in enumerate(text, 1) if not line.lstrip().startswith("#")]
    holding = [number for number, line in lines if option in line]
    own = [number for number, line in lines if re.match(rf"\s*{variable}\+?=", line)]
    both = [number for number in holding if number in own]
    numbers = both or holding or own
    return f", line {numbers[-1]}" if numbers else ""
