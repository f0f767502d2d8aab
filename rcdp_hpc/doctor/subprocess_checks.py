"""Checks in child processes: probes of packages, and commands of the machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping

from rcdp_hpc.doctor.probes import Facts

PROBE_TIMEOUT_S = 90
COMMAND_TIMEOUT_S = 10
# Variables of launchers, with which a probe would take itself for a rank of the job.
LAUNCHER_PREFIXES = (
    "OMPI_", "PMIX_", "PMI_", "PRTE_", "HYDRA_", "SLURM_", "HOROVOD_", "TORCHELASTIC_", "MASTER_", "GROUP_", "ROLE_",
)  # fmt: skip
LAUNCHER_NAMES = frozenset({"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"})


def probe(name: str, environ: Mapping[str, str] | None = None, timeout: float = PROBE_TIMEOUT_S) -> Facts:
    """Run one probe in a child process.

    Parameters
    ----------
    name : str
        A key of `probes.PROBES`, or "world".
    environ : mapping, optional
        Environment of the child. Default: the environment of this process without the variables of launchers.
    timeout : float
        Seconds to wait for the child.

    Returns
    -------
    dict
        The result of the probe, or ``{"error": reason}``.
    """
    code = f"from rcdp_hpc.doctor import probes; probes.print_probe({name!r})"
    env = dict(environ) if environ is not None else without_launcher(os.environ)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=env,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no result within {timeout:.0f} s"}
    except OSError as error:
        return {"error": str(error)}
    answers = re.findall(r"^probe:(.*)$", done.stdout, re.MULTILINE)
    if answers:
        answer: Facts = json.loads(answers[-1])
        return answer
    if done.returncode < 0:
        return {"error": f"crashed with {signal.Signals(-done.returncode).name} during the import"}
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return {"error": (lines[-1] if lines else f"exited with code {done.returncode}")[:300]}


def without_launcher(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables of launchers."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(LAUNCHER_PREFIXES) and name not in LAUNCHER_NAMES
    }


def output_of(*command: str) -> str:
    """Return the output of a command; empty if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            env=without_launcher(os.environ),
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
