"""Checks on whole runs that several tests use."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.deploy.predict import predict


def assert_prediction_equals_evaluation(run: Path, evaluated: dict) -> None:
    shards = ShardReader(run / "shards")
    rows = shards.read("test", 0, shards.rows("test"))
    np.savez(run / "samples.npz", x=rows.x / np.float32(shards.scale))
    predict(run / "train/model.pt", run / "samples.npz", run / "labels.npz")
    found = np.load(run / "labels.npz")["label"]
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (rows.y, found), 1)
    assert confusion.tolist() == evaluated["confusion"]
