"""The rule of a trained model's answers."""

from types import SimpleNamespace

import numpy as np

from rcdp_hpc.config import load_config
from rcdp_hpc.training.calibration import _calibrated_shares


def test_temperature_scaling_leaves_the_shares_of_the_training_rows():
    table = [{"source": count, "validation": 1} for count in (70, 20, 10)]
    shards = SimpleNamespace(class_counts=lambda split: np.array([50, 50, 50]), index={"class_table": table})
    shares = {method: _calibrated_shares(load_config({}), shards, method) for method in ("temperature", "vector")}
    np.testing.assert_allclose(shares["temperature"], [1 / 3] * 3)
    np.testing.assert_allclose(shares["vector"], [0.7, 0.2, 0.1])
