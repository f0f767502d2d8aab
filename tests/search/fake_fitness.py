"""A search whose candidates take almost no time, run as a program by tests that need real ranks or a kill."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.errors import CandidateError, RcdpError
from rcdp_hpc.runtime import signals
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.base import Fitness
from rcdp_hpc.search.evaluation.candidate import Evaluation, evaluate_candidate
from rcdp_hpc.search.space import Values


def cheap_config(**search: object) -> Config:
    """Return a configuration with a small space, one dimension of it logarithmic."""
    space = {
        "density": {"low": 0.01, "high": 0.5},
        "input_scaling": {"low": 0.01, "high": 10.0, "log": True},
        "leak": {"low": 0.1, "high": 1.0},
    }
    settings = {"population": 7, "generations": 6, "density_weight": 2.0, "space": space, **search}
    # The first candidate.
    reservoir = {"density": 0.45, "input_scaling": 5.0, "leak": 0.3}
    tree = {"run": {"seed": 3, "progress": False}, "reservoir": reservoir, "search": settings}
    return parse_config(tree, "(of a test)")


class CheapFitness(Fitness):
    """A smooth error; candidates of a high leak fail. Counts its calls."""

    def __init__(self, config: Config, pause: float = 0.0) -> None:
        self.config = config
        self.pause = pause
        self.calls = 0
        self.share = 1.0

    def set_share(self, share: float) -> CheapFitness:
        self.share = share
        return self

    def __call__(self, values: Values) -> Evaluation:
        self.calls += 1
        return evaluate_candidate(self.measure, values, self.config.search)

    def measure(self, values: Values) -> tuple[float, float]:
        time.sleep(self.pause)
        if values["leak"] > 0.8:
            raise CandidateError(f"leak {values['leak']:.3f} is too high for this test")
        error = (values["density"] - 0.2) ** 2 + np.log10(values["input_scaling"]) ** 2 + 0.01
        error += 0.05 * (1 - self.share) * values["leak"]  # on fewer rows another candidate is the best
        return float(error), float(1 / (1 + error))


class FunctionOfValues(Fitness):
    """The fitness that a function of the values returns."""

    def __init__(self, function: Callable[[Values], Evaluation]) -> None:
        self.function = function

    def __call__(self, values: Values) -> Evaluation:
        return self.function(values)


class KilledAtCall(CheapFitness):
    """Sends its process a signal at this call."""

    def __init__(self, config: Config, call: int, number: int) -> None:
        super().__init__(config)
        self.call = call
        self.number = number

    def __call__(self, values: Values) -> Evaluation:
        if self.calls + 1 == self.call:
            os.kill(os.getpid(), self.number)
        return super().__call__(values)


def main() -> int:
    """Run: folder [signal call-number], over the ranks of mpirun; the last one is sent the signal."""
    from rcdp_hpc.runtime.comm.connect import connect

    folder, *order = sys.argv[1:]
    config = cheap_config()
    comm = connect()
    signals.install()
    fitness: CheapFitness = CheapFitness(config)
    if order and comm.rank == comm.size - 1:
        fitness = KilledAtCall(config, int(order[1]), signal.Signals[order[0]])
    try:
        run_search(config, comm, fitness, Path(folder))
    except RcdpError as error:
        print(f"rank {comm.rank}: {type(error).__name__}: {error}", flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
