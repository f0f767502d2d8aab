"""Runs commands in this process, each with other failing system calls, and prints the results as JSON.

Standard input: a JSON object a line with "rules" (see inject.c), "command" and optionally "before", a list of commands
that run first without failures.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback

from rcdp_hpc.cli import main


def run(case: dict) -> dict:
    """Run one case and return its exit code and output."""
    os.environ.pop("RCDP_INJECT", None)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        for command in case.get("before", []):
            assert main(command) == 0, printed.getvalue()
        printed.truncate(0)
        os.environ["RCDP_INJECT"] = case["rules"]
        try:
            code = main(case["command"])
        except BaseException:
            code = -1
            traceback.print_exc()
        os.environ.pop("RCDP_INJECT")
    return {"code": code, "printed": printed.getvalue()}


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
