"""Train and test one rival on one set of series, in an interpreter that has aeon 1.6 and the reservoir packages.

    python series_rivals.py METHOD NAME_TRAIN.ts NAME_TEST.ts SEED

Print one JSON line: accuracy, balanced accuracy, the CPU seconds of fit and predict (without imports and reading), and
the treatment of unequal lengths. benchmarks/series.py starts one process for each measurement.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from aeon.datasets import load_from_ts_file
from sklearn.metrics import accuracy_score, balanced_accuracy_score


def padded(series, longest):
    """Return equal lengths, (cases, channels, steps), with zeros at each series' end.

    MiniRocket is better with zeros than with the last value on PLAID (94.5 %, 93.0 %) and PickupGestureWiimoteZ (84 %,
    78 %), and a test series worse on JapaneseVowels.
    """
    return np.stack([np.pad(one, ((0, 0), (0, longest - one.shape[1]))) for one in series])


def minirocket(seed):
    from aeon.classification.convolution_based import MiniRocketClassifier

    return MiniRocketClassifier(random_state=seed, n_jobs=1)


def multirocket_hydra(seed):
    from aeon.classification.convolution_based import MultiRocketHydraClassifier

    return MultiRocketHydraClassifier(random_state=seed, n_jobs=1)


def dtw(seed):
    """One nearest neighbour, in a band of a tenth of the length (Sakoe and Chiba)."""
    from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier

    return KNeighborsTimeSeriesClassifier(distance="dtw", distance_params={"window": 0.1}, n_neighbors=1)


class ReservoirPy:
    """The sequence-to-vector model of ReservoirPy's tutorial on classification, with its settings."""

    def __init__(self, seed, reduce):
        import reservoirpy
        from reservoirpy.nodes import Reservoir, Ridge

        reservoirpy.set_seed(seed)
        self.reservoir = Reservoir(500, sr=0.9, lr=0.1, seed=seed)
        self.readout = Ridge(ridge=1e-6)
        self.reduce = reduce

    def _states(self, series):
        found = []
        for one in series:
            if self.reservoir.initialized:
                self.reservoir.reset()
            found.append(self.reduce(np.asarray(self.reservoir.run(one.T.copy())))[np.newaxis])
        return found

    def fit(self, series, labels):
        self.classes = np.unique(labels)
        self.readout.fit(self._states(series), [(self.classes == label)[np.newaxis].astype(float) for label in labels])

    def predict(self, series):
        scores = [np.asarray(self.readout.run(state))[0] for state in self._states(series)]
        return self.classes[np.argmax(scores, axis=1)]


class ReservoirComputing:
    """RC_model of the package reservoir-computing; it takes arrays of one length, (cases, steps, channels)."""

    def __init__(self, seed, **settings):
        from reservoir_computing.modules import RC_model

        np.random.seed(seed)
        self.model = RC_model(**settings)

    def fit(self, series, labels):
        self.classes = np.unique(labels)
        one_hot = (labels[:, np.newaxis] == self.classes).astype(float)
        self.model.fit(np.transpose(series, (0, 2, 1)), one_hot, verbose=False)

    def predict(self, series):
        return self.classes[self.model.predict(np.transpose(series, (0, 2, 1)))]


# The settings of the package's example of classification.
MODEL_SPACE = {
    "n_internal_units": 450, "spectral_radius": 0.59, "leak": 0.6, "connectivity": 0.25, "input_scaling": 0.1,
    "noise_level": 0.01, "n_drop": 5, "bidir": True, "dimred_method": "tenpca", "n_dim": 75, "mts_rep": "reservoir",
    "w_ridge_embedding": 10.0, "readout_type": "lin", "w_ridge": 5.0,
}  # fmt: skip

# Method: its maker, and whether it needs series of one length.
METHODS = {
    "minirocket": (minirocket, True),
    "multirocket-hydra": (multirocket_hydra, True),
    "dtw": (dtw, False),
    "reservoirpy-last": (lambda seed: ReservoirPy(seed, lambda states: states[-1]), False),
    "reservoirpy-mean": (lambda seed: ReservoirPy(seed, lambda states: states.mean(axis=0)), False),
    "rc-mean": (lambda seed: ReservoirComputing(seed), True),
    "rc-model-space": (lambda seed: ReservoirComputing(seed, **MODEL_SPACE), True),
}


def main() -> None:
    method, train_path, test_path, seed = sys.argv[1:]
    make, equal_lengths = METHODS[method]
    (train, labels), (test, truth) = load_from_ts_file(train_path), load_from_ts_file(test_path)
    longest = max(one.shape[1] for part in (train, test) for one in part)
    unequal = any(one.shape[1] != longest for part in (train, test) for one in part)
    if unequal and equal_lengths:
        train, test = padded(train, longest), padded(test, longest)
    started = time.process_time()
    model = make(int(seed))
    model.fit(train, labels)
    predicted = model.predict(test)
    result = {
        "accuracy": accuracy_score(truth, predicted),
        "balanced": balanced_accuracy_score(truth, predicted),
        "fit_cpu": time.process_time() - started,
        "padded": unequal and equal_lengths,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
