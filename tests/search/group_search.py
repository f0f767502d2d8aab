"""A search over small reservoirs for tests of groups of ranks; some of its candidates fail."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import numpy as np

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.runtime import signals
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.inner_folds import parent_folds
from rcdp_hpc.search.evaluation.rows import FitnessData


def small_config(**search: object) -> Config:
    """Return a configuration of a small reservoir and few candidates, of which some fail."""
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
        "training": {"batch": 32},
        "readout": {"outputs": 8, "hidden": 8},
    }
    return parse_config(tree, "(of a test)")


ARCHITECTURE = {
    "density": {"low": 0.05, "high": 0.5},
    "learning_rate": {"low": 1e-3, "high": 3e-2, "log": True},
    "hidden": {"low": 4, "high": 12, "log": True},
    "nodes": {"low": 5, "high": 40, "log": True},
    "layers": {"low": 1, "high": 2},
    "states": {"choices": [1, 2, 4]},
    "readout_layers": {"low": 1, "high": 3},
    "readout_activation": {"choices": ["relu", "tanh"]},
    "outputs": {"low": 4, "high": 16},
    "dropout": {"low": 0.0, "high": 0.4},
    "batch": {"choices": [16, 32]},
}


def architecture_config(**search: object) -> Config:
    """Return the configuration of a small search over sizes of reservoir and readout."""
    return small_config(**{"space": ARCHITECTURE, "evaluation": "train", "epochs": 1, **search})


def small_data() -> FitnessData:
    """Return noisy ramps of four slopes."""
    generator = np.random.default_rng(3)
    y = np.arange(400) % 4
    ramp = np.linspace(-1, 1, 6)[None, :, None] * (y[:, None, None] - 1.5)
    x = (ramp + generator.normal(0, 0.4, (400, 6, 5))).astype(np.float32)
    return FitnessData(x[:300], y[:300], x[300:], y[300:], 4)


def one_pass_data(config: Config) -> FitnessData:
    """Return uneven rows with synthetic rows between rows of a class, and the folds of the rows they derive from."""
    data, generator = small_data(), np.random.default_rng(7)
    kept = np.flatnonzero((data.y_train != 2) | (np.arange(300) % 3 == 0))
    x, y = data.x_train[kept], data.y_train[kept]
    first = generator.choice(np.flatnonzero(y == 2), 50)
    second = generator.choice(np.flatnonzero(y == 2), 50)
    step = generator.random((50, 1, 1), dtype=np.float32)
    order = generator.permutation(len(y) + 50)
    rows = SimpleNamespace(
        y=np.concatenate([y, y[first]])[order],
        synthetic=np.repeat([False, True], [len(y), 50])[order],
        source_index=np.concatenate([np.arange(len(y)), first])[order],
        neighbour_index=np.concatenate([np.full(len(y), -1), second])[order],
        group=None,
    )
    samples = np.concatenate([x, x[first] + step * (x[second] - x[first])])[order]
    folds = parent_folds(rows, "abcd", config)
    return FitnessData(samples, rows.y, data.x_val, data.y_val, 4, synthetic=rows.synthetic, parent_folds=folds)


class Interrupted(ReservoirFitness):
    """Receives a stop signal in a round: at its beginning (place 0), or during its first candidate (place 1)."""

    def __init__(self, config: Config, data: FitnessData, stop: tuple[int, int] | None = None) -> None:
        super().__init__(config, data)
        self.stop = stop
        self.round = 0
        self.place = 0

    def set_share(self, share: float) -> ReservoirFitness:
        """Begin a round."""
        self.round, self.place = self.round + 1, 0
        self._stop_if_due()
        return super().set_share(share)

    def __call__(self, values):
        self.place += 1
        self._stop_if_due()
        return super().__call__(values)

    def _stop_if_due(self) -> None:
        if (self.round, self.place) == self.stop:
            signals._remember(signal.SIGUSR1, None)
