"""The peak of the resident memory within a block."""

from __future__ import annotations

import numpy as np
import pytest

from rcdp_hpc.runtime import peak_memory
from rcdp_hpc.runtime.peak_memory import PeakMemory

MIB = 2**20


def test_the_peak_is_that_of_the_block():
    with PeakMemory() as large:
        np.ones(64 * MIB, np.uint8).sum()
    with PeakMemory() as small:
        np.ones(MIB, np.uint8).sum()
    assert large.peak - large.before > 60 * MIB
    assert small.peak - small.before < 30 * MIB


def test_without_permission_to_reset_the_peak_is_that_of_the_process(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(peak_memory, "_CLEAR", tmp_path)
    np.ones(64 * MIB, np.uint8).sum()
    with PeakMemory() as memory:
        pass
    assert memory.peak >= memory.before > 0
    assert "since the start of the process" in caplog.text


def test_an_error_passes_through():
    with pytest.raises(ValueError, match="inside"), PeakMemory():
        raise ValueError("inside")
