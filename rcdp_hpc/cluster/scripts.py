"""The text of job scripts, and the options of sbatch.

Text from the user (paths, options of a site) is either quoted for the shell, or an argument of sbatch that no shell
interprets.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.text import on_one_line, shell_word

Stage = Literal["prepare", "search", "train", "all", "seeds", "configs", "folds", "data", "cells"]
ARRAYS = ("seeds", "configs", "folds", "cells")
# Arrays whose script lists the run directories of the tasks.
NAMED_ARRAYS = ("configs", "cells")

SHARED = Path(__file__).parent / "job.sh"
DEFAULT_SITE = Path(__file__).parent / "site.sh"

_WORK: dict[Stage, str] = {
    "prepare": 'on_one_process prepare "$CONFIG" --out "$RUN"',
    "search": 'on_ranks search "$CONFIG" --out "$RUN"',
    "train": 'on_ranks train "$CONFIG" --out "$RUN" &&\n    on_ranks evaluate "$CONFIG" --out "$RUN"',
    "all": 'on_ranks run "$CONFIG" --out "$RUN"',
    "seeds": 'on_ranks run "$CONFIG" --out "$RUN" --set "run.seed=$SLURM_ARRAY_TASK_ID"',
    "configs": 'on_ranks run "$CONFIG" --out "$RUN"',
    "folds": 'on_ranks crossvalidate "$CONFIG" --out "${RUN%/*}" --fold "$SLURM_ARRAY_TASK_ID"',
    "data": 'on_ranks compare "$CONFIG" --out "$RUN" --data-only',
    "cells": 'on_ranks compare "$CONFIG" --out "${RUN%/cells/*}" --cell "$SLURM_ARRAY_TASK_ID"',
}
SITE_LISTS: dict[Stage, str] = {
    "prepare": "PREPARE_JOB",
    "search": "SEARCH_JOB",
    "train": "TRAIN_JOB",
    "all": "ALL_JOB",
    "seeds": "ALL_JOB",
    "configs": "ALL_JOB",
    "folds": "ALL_JOB",
    "data": "ALL_JOB",
    "cells": "ALL_JOB",
}
_SHARED_SHARDS = 'mkdir -p "$RUN"\nln -sfn ../shards "$RUN/shards"'
# Each task of an array has its own run directory; seeds and configurations share their shards.
_TASK_DIRECTORY = {
    "seeds": f"RUN=$RUN/seed-$SLURM_ARRAY_TASK_ID\n{_SHARED_SHARDS}",
    "configs": "CONFIG=$RUN/jobs/configs/$SLURM_ARRAY_TASK_ID.toml\n"
    f"RUN=$RUN/${{names[SLURM_ARRAY_TASK_ID - 1]}}\n{_SHARED_SHARDS}",
    "folds": "RUN=$RUN/fold-$SLURM_ARRAY_TASK_ID",
    "cells": "RUN=$RUN/${names[SLURM_ARRAY_TASK_ID - 1]}",
}
# Prints the length and the elements of each list, each followed by a NUL byte.
_READ_SITE = """
. "$1" >/dev/null || exit
shift
for name in "$@"; do
    declare -n list=$name
    printf '%s\\0' "${#list[@]}" "${list[@]}"
done
"""


@dataclass(frozen=True)
class Resources:
    """Requested resources of a job.

    Attributes
    ----------
    ranks : int
        Number of ranks (tasks of Slurm).
    cores : int
        Cores per rank.
    time : str
        Time limit in the format of sbatch.
    """

    ranks: int
    cores: int
    time: str

    def lines(self) -> list[str]:
        """Return the options of sbatch."""
        return [f"--ntasks={self.ranks}", f"--cpus-per-task={self.cores}", f"--time={self.time}"]


def resources(stage: Stage, config: Config) -> Resources:
    """Return the default resources of a stage, which the site file may override.

    A search with N candidates per generation uses at most N ranks, unless several ranks share a candidate.
    """
    search, training = config.search, config.training
    cores = training.threads or 4
    return {
        "prepare": Resources(1, 4, "01:00:00"),
        "search": Resources(min(16, search.population * max(1, search.group_ranks)), search.threads, "04:00:00"),
        "train": Resources(4, cores, "04:00:00"),
        "all": Resources(4, max(search.threads, training.threads or 2), "08:00:00"),
        "data": Resources(4, training.threads or 1, "04:00:00"),
        **dict.fromkeys(ARRAYS, Resources(2, max(search.threads, training.threads or 2), "08:00:00")),
        # With one rank, results are those of a comparison without an array, in which each rank has its own cells.
        "cells": Resources(1, max(search.threads, training.threads or 1), "08:00:00"),
    }[stage]


def script_text(stage: Stage, config: Config, run: Path, environment: Path, names: Sequence[str] = ()) -> str:
    """Return the text of the job script of a stage.

    Parameters
    ----------
    stage : {"prepare", "search", "train", "all", "seeds", "configs", "folds", "data", "cells"}
    config : Config
    run : Path
        Absolute path of the run directory. Its folder ``jobs`` has configuration, site file and job.sh.
    environment : Path
        The Python environment with `rcdp`, unless the site file names another one.
    names : sequence of str
        Run directories of an array of configurations or cells, within `run`.

    Raises
    ------
    InputError
        If the name of the run directory cannot be passed to Slurm.
    """
    for path in (run, *(run / name for name in names)):
        check_name(path)
    options = [
        f"--job-name=rcdp-{stage}",
        "--open-mode=append",
        "--requeue",
        "--signal=B:USR1@120",
        *resources(stage, config).lines(),
    ]
    if stage == "prepare":
        options.insert(4, "--nodes=1")
    lines = [
        "#!/usr/bin/env bash",
        "# Written by `rcdp submit`.",
        *(f"#SBATCH {option}" for option in options),
        "",
        f"RUN={shell_word(run)}",
        "CONFIG=$RUN/jobs/config.toml",
        "RCDP_SITE=$RUN/jobs/site.sh",
        "shared=$RUN/jobs/job.sh",
        f"environment={shell_word(environment)}",
        "RCDP_VENV=${RCDP_VENV:-$environment}",
    ]
    if stage in NAMED_ARRAYS:
        lines += ["names=(", *(shell_word(name) for name in names), ")"]
    if stage in ARRAYS:
        lines.append(_TASK_DIRECTORY[stage])
    return "\n".join([*lines, '. "$shared"', _WORK[stage]]) + "\n"


def check_name(run: Path) -> None:
    """Raise an `InputError` if a path cannot be passed to sbatch, which interprets backslashes in names of logs."""
    if re.search(r"[\x00-\x1f\x7f\\\ud800-\udfff]", str(run)):
        raise InputError(
            f"{str(run)!r}: a run directory on Slurm must have no backslash, no line break or other control character "
            "and no bytes that are not UTF-8 in its name. Choose another --out."
        )


def log_pattern(run: Path, stage: Stage) -> str:
    """Return the log path of a job in the format of sbatch: % is doubled, and Slurm inserts the job number."""
    number = "%A_%a" if stage in ARRAYS else "%j"
    return f"{str(run).replace('%', '%%')}/logs/{stage}-{number}.log"


def site_options(site: Path, stage: Stage) -> list[str]:
    """Return the options of sbatch in a site file for a stage; raises the same errors as `site_lists`."""
    return [option for options in site_lists(site, stage).values() for option in options]


def site_lists(site: Path, stage: Stage) -> dict[str, list[str]]:
    """Return the options of sbatch in a site file for every job and for a stage, by the name of the list.

    Raises
    ------
    InputError
        If the file is missing or bash cannot read it.
    """
    if not site.is_file():
        raise InputError(f"{site}: no such site file. Copy slurm/site.sh, or {DEFAULT_SITE}, and edit the copy.")
    names = ("EVERY_JOB", SITE_LISTS[stage])
    done = subprocess.run(
        ["bash", "-c", _READ_SITE, "site", str(site.absolute()), *names], capture_output=True, text=True
    )
    if done.returncode:
        raise InputError(f"{site}: bash cannot read this site file: {on_one_line(done.stderr)}")
    words = done.stdout.split("\0")
    lists: dict[str, list[str]] = {}
    for name in names:
        count = int(words.pop(0))
        lists[name] = words[:count]
        del words[:count]
    return lists
