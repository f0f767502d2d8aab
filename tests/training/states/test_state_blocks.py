"""Blocks of states as a GPU computes them: samples as they are stored, checks that are read at the end."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.data.shards.reader import Rows
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.sequence_checks import CollectedChecks
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.training.states import cache
from rcdp_hpc.training.states.cache import state_blocks
from rcdp_hpc.training.states.shifts import shifts_within

BYTES = Storage("uint8", 1 / 255)


class Counted:
    """Rows of a progress bar."""

    def __init__(self):
        self.rows = []

    def advance(self, rows):
        self.rows.append(rows)


class Samples:
    """Rows that are stored as bytes; remembers which threads read them, and how."""

    def __init__(self, values=None):
        self.stored = np.random.default_rng(0).integers(0, 256, (11, 5, 5), dtype=np.uint8)
        self.values = BYTES.decode(self.stored) if values is None else values
        self.reads = []

    def read(self, split, start, stop):
        return self._rows(self.values, "values", start, stop)

    def read_stored(self, split, start, stop):
        return self._rows(self.stored, "stored", start, stop, storage=BYTES)

    def _rows(self, x, how, start, stop, **options):
        self.reads.append((how, threading.current_thread()))
        empty = np.zeros(stop - start, np.int64)
        return Rows(x[start:stop], np.arange(start, stop, dtype=np.int32), empty > 0, empty, empty, empty, **options)


def reservoir():
    return Reservoir(ReservoirSection.model_validate({"nodes": 10, "density": 0.5, "batch_rows": 4}), 5)


def test_another_device_gets_stored_samples_from_the_thread_that_reads(monkeypatch):
    source, samples, progress = reservoir(), Samples(), Counted()
    source.device = torch.device("meta")
    given = []
    monkeypatch.setattr(source, "drive", lambda x, lengths, out, noisy: given.append(x) or x)
    labels = [labels for _, _, labels in state_blocks(source, samples, "train", 1, 11, progress, "computing")]
    assert [(x.device.type, x.dtype, len(x)) for x in given] == [("meta", torch.float32, rows) for rows in (4, 4, 2)]
    assert {how for how, _ in samples.reads} == {"stored"}
    assert threading.main_thread() not in {thread for _, thread in samples.reads}
    assert torch.cat(labels).tolist() == list(range(1, 11))
    assert progress.rows == [4, 4, 2]


@pytest.mark.parametrize("shifts", [shifts_within(0), shifts_within(1)])
def test_a_row_that_is_not_finite_is_named_after_all_blocks(shifts, monkeypatch):
    monkeypatch.setattr(cache, "CollectedChecks", lambda device: CollectedChecks(device, at_once=False))
    samples, progress = Samples(), Counted()
    blocks = list(state_blocks(reservoir(), samples, "train", 0, 11, progress, "computing", shifts=shifts))
    assert len(blocks) == 3 * len(shifts)
    samples.values = samples.values.copy()
    samples.values[6, 2, 3] = np.nan
    iterator = state_blocks(reservoir(), samples, "train", 0, 11, progress, "computing", shifts=shifts)
    for _ in blocks:
        next(iterator)
    with pytest.raises(CandidateError, match=r"row 2 of the batch holds nan \(step 2, feature 3\)"):
        next(iterator)
