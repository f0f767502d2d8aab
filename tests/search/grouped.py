"""A search over small reservoirs, run as a program over real ranks: groups must not change a bit."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.errors import RcdpError
from rcdp_hpc.runtime import signals
from rcdp_hpc.search.data import FitnessData
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.fitness import ReservoirFitness


def small_config(**search: object) -> Config:
    """Return a configuration of a small reservoir and few candidates, some of which fail."""
    tree = {
        "run": {"seed": 5, "progress": False},
        "reservoir": {"nodes": 40, "kernel": "dense-fp32", "batch_rows": 32, "states": 2},
        "search": {
            "population": 5,
            "generations": 3,
            "epochs": 2,
            "space": {
                "density": {"low": 0.0003, "high": 0.5, "log": True},
                "leak": {"low": 0.2, "high": 1.0},
                "activation": {"choices": ["tanh", "sigmoid"]},
            },
            **search,
        },
        "training": {"outputs": 8, "hidden": 8, "batch": 32},
    }
    return parse_config(tree, "(of a test)")


def small_data() -> FitnessData:
    """Return rows that need no file: noisy ramps of four slopes."""
    generator = np.random.default_rng(3)
    y = np.arange(400) % 4
    ramp = np.linspace(-1, 1, 6)[None, :, None] * (y[:, None, None] - 1.5)
    x = (ramp + generator.normal(0, 0.4, (400, 6, 5))).astype(np.float32)
    return FitnessData(x[:300], y[:300], x[300:], y[300:], 4)


class Interrupted(ReservoirFitness):
    """Sends its process a signal at a call of the given number."""

    def __init__(self, config: Config, data: FitnessData, call: int, number: int) -> None:
        super().__init__(config, data)
        self.call, self.number, self.calls = call, number, 0

    def __call__(self, values):
        self.calls += 1
        if self.calls == self.call:
            os.kill(os.getpid(), self.number)
        return super().__call__(values)


def main() -> int:
    """Run: folder group-ranks evaluation [kill|stop call-number]."""
    from rcdp_hpc.runtime.world import connect

    folder, group_ranks, evaluation, *order = sys.argv[1:]
    config, comm = small_config(group_ranks=int(group_ranks), evaluation=evaluation), connect()
    signals.install()
    fitness = ReservoirFitness(config, small_data())
    if order and comm.rank == comm.size - 1:
        number = signal.SIGKILL if order[0] == "kill" else signal.SIGUSR1
        fitness = Interrupted(config, small_data(), int(order[1]), number)
    try:
        run_search(config, comm, fitness, Path(folder))
    except RcdpError as error:
        print(f"rank {comm.rank}: {type(error).__name__}: {error}", flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
