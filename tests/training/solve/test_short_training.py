"""The training of a candidate's readout stays on the device of its states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recorded_step import NoReadBacks, reads_back
from settings import config_of

from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.training.solve import candidate_solution
from rcdp_hpc.training.solve.short_training import fit_readout

ROWS, WIDTH, CLASSES = 60, 12, 3


class ReadBacks(NoReadBacks):
    """Counts what it would refuse."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += reads_back(operation, args, kwargs or {})
        return operation(*args, **(kwargs or {}))


def fitted(**settings: object) -> np.ndarray:
    rng = np.random.default_rng(2)
    labels = torch.from_numpy(rng.integers(0, CLASSES, ROWS + 20))
    states = torch.from_numpy(rng.standard_normal((CLASSES, WIDTH))[labels] + rng.standard_normal((ROWS + 20, WIDTH)))
    return fit_readout(
        states[:ROWS].bfloat16(), FeatureShape(1, 1, WIDTH), labels[:ROWS], states[ROWS:].bfloat16(),
        config=config_of(**settings), classes=CLASSES, epochs=2, seed=1, validation_labels=labels[ROWS:],
    )  # fmt: skip


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_what_is_read_from_the_device_does_not_grow_with_the_steps(optimizer):
    counts = []
    for batch in (10, 30):
        with ReadBacks() as mode:
            fitted(
                optimizer__kind=optimizer, training__batch=batch, partition__count=2, readout__hidden=6,
                readout__outputs=4, readout__dropout=0.2,
            )  # fmt: skip
        counts.append(mode.count)
    assert counts[0] == counts[1]


def test_a_solved_readout_follows_its_states(monkeypatch):
    settings = {"readout__kind": "ridge", "readout__ridge_precision": "double"}
    expected = fitted(**settings)
    monkeypatch.setattr(candidate_solution, "sums_device", lambda device: device)
    np.testing.assert_allclose(fitted(**settings), expected, atol=1e-6)
