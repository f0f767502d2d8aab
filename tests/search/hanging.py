"""A search whose fourth candidate (on the last rank) hangs in native code."""

from __future__ import annotations

import ctypes
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from search.fake_fitness import CheapFitness, cheap_config

import rcdp_hpc.search.records.journal as journal
from rcdp_hpc.runtime.comm.connect import connect
from rcdp_hpc.search.driver import run_search


def sleep_in_native_code(held: bool) -> None:
    """Sleep without reaction to signals, with the interpreter released for other threads, or held."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    library = ctypes.PyDLL(None) if held else ctypes.CDLL(None)
    library.sleep(60)


class Hanging(CheapFitness):
    """Hangs at its fourth call."""

    def __call__(self, values):
        if self.calls == 3:
            sleep_in_native_code(sys.argv[2] == "held")
        return super().__call__(values)


if __name__ == "__main__":
    journal.PATIENCE_SECONDS, journal.BACKSTOP_SECONDS = 0.5, 1.0
    config, comm = cheap_config(candidate_seconds=0.3), connect()
    last = comm.rank == comm.size - 1
    run_search(config, comm, (Hanging if last else CheapFitness)(config), Path(sys.argv[1]))
