"""From an error message of sbatch to the option of the site file or the command line that must change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rcdp_hpc.cluster.scripts import SITE_LISTS, Stage, site_lists
from rcdp_hpc.runtime.text import shell_word

_SIZE = ("--nodes", "--ntasks", "--ntasks-per-node", "--cpus-per-task", "--exclusive")
_MEMORY = ("--mem", "--mem-per-cpu", "--mem-per-gpu")
_DEVICES = ("--gres", "--gpus", "--gpus-per-task", "--gpus-per-node", "--gpus-per-socket")
# Pattern in a message of sbatch -> options that may be the cause. The first match counts.
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
    """Return a line for each option that may be the cause of a refusal, with the place where it is set.

    Parameters
    ----------
    words : str
        The message of sbatch.
    stage : str
    text : str
        The script of the job.
    site : Path
        The site file.
    extra : sequence of str
        Options from the command line (``--sbatch``), which override all others.
    """
    settings = _settings(stage, text, site, extra)
    about = [name for name in re.findall(r"--[a-z][a-z-]+", words) if name in settings]
    about = about or [name for name in _options_of(words) if name in settings]
    if about:
        return [f"{settings[name][0]}   {settings[name][1]}" for name in dict.fromkeys(about)]
    return [f"{SITE_LISTS[stage]} or EVERY_JOB of {site}, which have the options of this job"]


def _options_of(words: str) -> tuple[str, ...]:
    return next((options for pattern, options in _ABOUT if re.search(pattern, words, re.IGNORECASE)), ())


def _settings(stage: Stage, text: str, site: Path, extra: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return each option of a job, as written, and its place, by long name; the last occurrence counts."""
    settings: dict[str, tuple[str, str]] = {}
    scripted = re.findall(r"^#SBATCH (.+)$", text, re.MULTILINE)
    for name, option in _named(scripted):
        settings[name] = (option, f"is the default: set another value in {SITE_LISTS[stage]}=() of {site}")
    for variable, options in site_lists(site, stage).items():
        for name, option in _named(options):
            settings[name] = (option, f"in {variable} of {site}{_line(site, variable, option)}")
    for name, option in _named(extra):
        settings[name] = (option, f"on the command line: --sbatch={shell_word(option)}")
    return settings


def _named(options: Sequence[str]) -> list[tuple[str, str]]:
    """Return the long name of each option, and the option with its value as it is written."""
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
    """Return the line number of an option in the site file, or of its list if the option is composed of variables."""
    text = site.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [(number, line) for number, line in enumerate(text, 1) if not line.lstrip().startswith("#")]
    with_option = [number for number, line in lines if option in line]
    with_variable = [number for number, line in lines if re.match(rf"\s*{variable}\+?=", line)]
    with_both = [number for number in with_option if number in with_variable]
    numbers = with_both or with_option or with_variable
    return f", line {numbers[-1]}" if numbers else ""
