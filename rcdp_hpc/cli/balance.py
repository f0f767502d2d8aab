"""`rcdp balance-check`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from rcdp_hpc.config import Config
from rcdp_hpc.errors import EXIT_DONE
from rcdp_hpc.pipeline.requirements import require_torch
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root
from rcdp_hpc.runtime.text import join_lines, shell_word


def balance_check_on_ranks(options: argparse.Namespace, configuration: Callable[[], Config], comm: Communicator) -> int:
    """Check on the ranks of the job, and print the table and what to set on rank 0."""
    run_on_root(comm, require_torch)
    from rcdp_hpc.balance_check.check import balance_check
    from rcdp_hpc.balance_check.output import PAGE, table

    config = run_on_root(comm, configuration)
    record = balance_check(config, options.out, comm, options.folds, options.criterion)
    if comm.is_root:
        print(join_lines(["", *table(record), "", record["verdict"]["sentence"]]), flush=True)
        if not options.quiet:
            print(f"\nreport: {shell_word(options.out / PAGE)}", flush=True)
    return EXIT_DONE
