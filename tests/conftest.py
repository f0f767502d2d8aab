"""What all tests share."""

import sys
from pathlib import Path

import pytest

from rcdp_hpc.runtime import signals

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _no_stop_signal_left_behind():
    signals.forget()
    yield
    signals.forget()
