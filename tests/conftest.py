"""Fixtures of all tests."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

from rcdp_hpc.runtime import early_signals, owners, signals

sys.path.insert(0, str(Path(__file__).parent))

# A slow example on a busy machine is not a failure; the time limit of the test ends a hanging one.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def _record_of_own_code_apart(tmp_path_factory):
    """Make commands of tests record the code of configurations in a folder of the tests."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Escape names that are not UTF-8 in captured logs, which processes of pytest-xdist could not send."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def _no_stop_signal_left_behind():
    """Restore signal handlers after a command that a test or fixture calls within this process."""
    _forget_signals()
    yield
    _forget_signals()


@pytest.fixture(autouse=True)
def _no_terminal_log_left_behind():
    """Restore the logger of the package after a command that a test or fixture calls within this process."""
    _forget_terminal()
    yield
    _forget_terminal()


def _forget_terminal():
    logger = logging.getLogger("rcdp_hpc")
    logger.handlers[:] = [logging.NullHandler()]
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def _forget_signals():
    signals.clear()
    for number in early_signals.STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture
def dead_process():
    """A process of this machine that has ended."""
    started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    state, ticks = owners._stat(started.pid)
    started.communicate()
    assert state
    assert ticks
    return owners.Process(owners.this_process().machine, started.pid, ticks)
