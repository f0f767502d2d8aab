"""``rcdp doctor``: what is installed here, and what is missing for which stage.

Every package is tried in a process of its own, so that one that crashes or hangs on import is reported like one
that is missing. Nothing heavy is imported by doctor itself.
"""

from __future__ import annotations

import json as jsonlib
import os

from rcdp_hpc.doctor import subprocess_checks
from rcdp_hpc.doctor.environment import inspect_environment
from rcdp_hpc.doctor.report import format_report
from rcdp_hpc.runtime.comm.launch import detect


def run(json: bool = False) -> int:
    """Print the report, once for all ranks.

    Parameters
    ----------
    json : bool
        Print the data of `report` instead of the table.

    Returns
    -------
    int
        0 where every stage is ready, otherwise 1.
    """
    launch = detect()
    if launch.rank != 0:
        if launch.kind == "mpi":
            subprocess_checks.probe("world", os.environ)  # rank 0 counts on the others to join
        return 0
    facts = inspect_environment()
    print(jsonlib.dumps(facts, indent=2) if json else format_report(facts), flush=True)
    return 0 if facts["ready"] else 1
