"""A floor for series: MiniRocket features and a ridge classifier. The features are those of aeon, an extra.

A. Dempster, D. F. Schmidt, G. I. Webb, "MiniRocket: a very fast (almost) deterministic transform for time series
classification", KDD (2021) 248-257.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.comparison.methods.floor import Features, FittedModel, Floor, Samples
from rcdp_hpc.config import Config, DataFacts

# A kernel reads nine values.
FEWEST_STEPS = 9
FEATURES = 9996
PENALTIES = (10_000.0, 1000.0, 100.0, 10.0, 1.0)


class MiniRocketFloor(Floor):
    """aeon's MiniRocket transform; the validation rows choose the ridge penalty of its standardised features."""

    def problem(self, config: Config, facts: DataFacts) -> str | None:
        """Return why the method cannot take the data; None if it can."""
        if facts.kind != "series":
            return f"MiniRocket is the floor of series, and these data are of the kind '{facts.kind}': leave it out"
        if facts.shortest not in (None, facts.sample_shape[0]):
            return (
                f"MiniRocket takes series of equal length, and these have {facts.shortest} to {facts.sample_shape[0]} "
                "steps: leave it out"
            )
        if 0 < facts.sample_shape[0] < FEWEST_STEPS:
            return f"a kernel of MiniRocket reads {FEWEST_STEPS} steps, and these series have {facts.sample_shape[0]}"
        if find_spec("aeon") is None:
            return "it needs aeon, which is not installed: pip install 'rcdp_hpc[compare]'"
        return super().problem(config, facts)

    def candidates(self) -> Sequence[Mapping[str, Any]]:
        """Return the ridge penalties, the strongest first."""
        return [{"alpha": value} for value in PENALTIES]

    def features_of(self, sample_shape: Sequence[int]) -> int:
        """Return the number of MiniRocket's features."""
        return FEATURES

    def feature_map(self, train: Samples, facts: DataFacts, seed: int) -> Callable[[Samples], Features]:
        """Return the function from series to standardised features, about 10,000 for each series."""
        from aeon.transformations.collection.convolution_based import MiniRocket
        from sklearn.preprocessing import StandardScaler

        rocket = MiniRocket(random_state=seed).fit(_channels_first(train.x))
        scaler = StandardScaler().fit(rocket.transform(_channels_first(train.x)))

        def features(samples: Samples) -> Features:
            return np.asarray(scaler.transform(rocket.transform(_channels_first(samples.x))), np.float32)

        return features

    def fit(self, features: Features, y: NDArray[np.int64], seed: int, **settings: Any) -> FittedModel:
        """Return the ridge classifier."""
        import warnings

        from scipy.linalg import LinAlgWarning
        from sklearn.linear_model import RidgeClassifier

        with warnings.catch_warnings():
            # A small penalty in single precision; the validation rows choose another one if it is too small.
            warnings.simplefilter("ignore", LinAlgWarning)
            fitted: FittedModel = RidgeClassifier(**settings).fit(features, y)
        return fitted


def _channels_first(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return series (rows, steps, features) as aeon reads them, (rows, features, steps)."""
    return np.ascontiguousarray(x.reshape(len(x), x.shape[1], -1).transpose(0, 2, 1))
