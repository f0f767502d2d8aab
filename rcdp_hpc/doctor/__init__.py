"""``rcdp doctor``: what is installed, and what is missing for each stage.

Each package is imported in a separate process, so a package that crashes or hangs on import is reported like a missing
one.
"""

from __future__ import annotations

import json as jsonlib
import os

from rcdp_hpc.doctor import subprocess_checks
from rcdp_hpc.doctor.environment import inspect_environment
from rcdp_hpc.doctor.report import format_report
from rcdp_hpc.runtime.comm.launch import detect


def run(json: bool = False) -> int:
    """Print the report on rank 0.

    Parameters
    ----------
    json : bool
        Print the data of `environment.inspect_environment` as JSON instead of a table.

    Returns
    -------
    int
        0 if every stage is ready, otherwise 1.
    """
    launch = detect()
    if launch.rank != 0:
        if launch.uses_mpi:
            subprocess_checks.probe("world", os.environ)  # rank 0 waits for the other ranks to join
        return 0
    facts = inspect_environment()
    print(jsonlib.dumps(facts, indent=2) if json else format_report(facts), flush=True)
    return 0 if facts["ready"] else 1
