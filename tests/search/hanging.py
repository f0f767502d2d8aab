"""A search whose fourth candidate (on the last rank) hangs in native code."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from search.cheap import CheapFitness, cheap_config

import rcdp_hpc.search.journal as journal
from rcdp_hpc.runtime.world import connect
from rcdp_hpc.search.driver import run_search


class Hanging(CheapFitness):
    """Hangs at its fourth call."""

    def __call__(self, values):
        if self.calls == 3:
            from search.test_limits import sleep_in_native_code

            sleep_in_native_code(sys.argv[2] == "held")
        return super().__call__(values)


if __name__ == "__main__":
    journal.PATIENCE_SECONDS, journal.BACKSTOP_SECONDS = 0.5, 1.0
    config, comm = cheap_config(candidate_seconds=0.3), connect()
    last = comm.rank == comm.size - 1
    run_search(config, comm, (Hanging if last else CheapFitness)(config), Path(sys.argv[1]))
