"""What all tests share."""

import sys
from pathlib import Path

import hypothesis
import pytest

from rcdp_hpc.runtime import signals

sys.path.insert(0, str(Path(__file__).parent))

# An example that takes long on a busy machine is no failure; one that hangs ends with its test's time.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _no_stop_signal_left_behind():
    signals.forget()
    yield
    signals.forget()
