"""A program that calls a stage is as before when it returns: streams, logging, signals, generators, settings."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

import rcdp_hpc
from rcdp_hpc.data import prepare
from rcdp_hpc.runtime.lock_file import current_holder
from rcdp_hpc.runtime.logs import logging_to_file
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training import loop

Y = np.arange(60) % 3
X = np.random.default_rng(0).normal(Y[:, None], 0.3, (60, 4))
NETWORK = {
    "reservoir": {"nodes": 20, "kernel": "dense-fp32", "batch_rows": 64},
    "readout": {"kind": "network"},
    "training": {"epochs": 2, "batch": 8},
    "search": {"generations": 1, "population": 2},
    "data": {"shards": 1},
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


def process_state() -> dict[str, object]:
    logger = logging.getLogger("rcdp_hpc")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "TORCHINDUCTOR"))
    }
    return {
        "signals": [signal.getsignal(number) for number in SIGNALS],
        "environment": environment,
        "folder": os.getcwd(),
        "path": list(sys.path),
        "streams": (sys.stdout, sys.stderr, sys.excepthook),
        "logger": (logger.level, list(logger.handlers), logger.propagate),
        "root": (logging.root.level, list(logging.root.handlers), logging.lastResort),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "random": (random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()),
        "torch": (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        ),
        "numpy": np.geterr(),
        "interpreter": sys.getswitchinterval(),
    }


def changes(before):
    after = process_state()
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The test scores of an undisturbed run. It also imports libraries, which have settings of their own."""
    return scores(rcdp_hpc.run(NETWORK, tmp_path_factory.mktemp("whole") / "run", data=(X, Y)))


def scores(results):
    return {name: value for name, value in results["evaluate"].items() if name != "trees"}


def test_a_run_leaves_the_process_as_it_was(whole, tmp_path, capfd):
    results = []
    before = process_state()

    async def within_a_loop():
        return rcdp_hpc.run(NETWORK, tmp_path / "loop", data=(X, Y))

    results.append(asyncio.run(within_a_loop()))
    rcdp_hpc.predict(tmp_path / "loop", X)
    rcdp_hpc.verify(tmp_path / "loop")
    assert not changes(before)
    thread = threading.Thread(target=lambda: results.append(rcdp_hpc.run(NETWORK, tmp_path / "thread", data=(X, Y))))
    thread.start()
    thread.join()
    assert not changes(before)
    assert [scores(one) for one in results] == [whole, whole]
    assert capfd.readouterr() == ("", "")


SCRIPT = """
import logging, sys
sys.argv[2] == "basic" and logging.basicConfig()
sys.argv[2] == "info" and logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s", stream=sys.stdout)
import numpy as np
import rcdp_hpc
y = np.arange(60) % 2
x = np.random.default_rng(0).normal(y[:, None], 0.3, (60, 4))
settings = {"data": {"max_samples": 50, "shards": 1}}  # a warning is logged
rcdp_hpc.prepare(settings, sys.argv[1], data=(x, y))
"""


@pytest.mark.parametrize("setup", ["none", "basic", "info"])
def test_nothing_is_printed_unless_logging_is_set_up(setup, tmp_path):
    """Python prints warnings of loggers without a handler; a root logger with its default level wants warnings only."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), setup]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    if setup == "none":
        assert (done.stdout, done.stderr) == ("", "")
    elif setup == "basic":
        assert done.stderr.startswith("WARNING:rcdp_hpc.data.prepare:data.max_samples = 50")
        assert "INFO" not in done.stderr
    else:
        assert "INFO rcdp_hpc.data.prepare" in done.stdout
        assert "WARNING rcdp_hpc.data.prepare" in done.stdout
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert "prepared " in log
    assert "data.max_samples" in log


class Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record):
        self.texts.append(record.getMessage())


@pytest.mark.parametrize(("level", "expected"), [(logging.WARNING, ["w"]), (logging.INFO, ["i", "w"])])
def test_handlers_of_the_program_get_the_messages_of_their_level(level, expected, tmp_path):
    root, package, mine = logging.getLogger(), logging.getLogger("rcdp_hpc"), Messages()
    log, before = logging.getLogger("rcdp_hpc.some.module"), root.level
    root.addHandler(mine)
    root.setLevel(level)
    try:
        with logging_to_file(tmp_path / "a"):
            with logging_to_file(tmp_path / "b"):
                log.info("i")
            log.warning("w")
        state = package.level, package.propagate
    finally:
        root.setLevel(before)
        root.removeHandler(mine)
    assert mine.texts == expected
    assert len((tmp_path / "a").read_text().splitlines()) == 2
    assert len((tmp_path / "b").read_text().splitlines()) == 1
    assert state == (logging.NOTSET, True)


def test_log_files_that_close_in_another_order_restore_the_logger(tmp_path):
    package, root = logging.getLogger("rcdp_hpc"), logging.getLogger()
    before, handlers = root.level, list(package.handlers)
    root.setLevel(logging.ERROR)
    try:
        first, second = logging_to_file(tmp_path / "a"), logging_to_file(tmp_path / "b")
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        logging.getLogger("rcdp_hpc.x").info("still for b")
        second.__exit__(None, None, None)
    finally:
        root.setLevel(before)
    assert (package.level, package.propagate, package.handlers) == (logging.NOTSET, True, handlers)
    assert "still for b" in (tmp_path / "b").read_text()


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_an_interrupt_ends_a_stage_which_can_be_resumed(stage, whole, tmp_path, monkeypatch):
    """As the kernel of a notebook does it: KeyboardInterrupt in the main thread, between any two instructions."""
    run = RunDirectory(tmp_path / "run")
    module, name = (prepare, "write_split") if stage == "prepare" else (loop, "Progress")
    before, real, calls = process_state(), getattr(module, name), []

    def interrupted(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        rcdp_hpc.run(NETWORK, run.path, data=(X, Y))
    assert current_holder(run.lock) is None
    assert not run.lock.exists()
    assert run.state(stage)["status"] == "stopped"
    assert run.state(stage)["reason"] == "interrupted by Ctrl-C"
    assert not changes(before)
    monkeypatch.setattr(module, name, real)
    assert scores(rcdp_hpc.run(NETWORK, run.path, data=(X, Y))) == whole
    assert not [one for one in run.path.iterdir() if one.name.startswith(".")]


@pytest.mark.parametrize(("asked", "setting"), [(True, True), (True, False), (False, True)])
def test_progress_is_shown_only_when_asked(asked, setting, tmp_path, monkeypatch):
    shown = []
    real = Progress.__init__

    def init(self, title, total, unit="rows", enabled=True, *arguments, **keywords):
        shown.append(bool(enabled))
        real(self, title, total, unit, enabled, *arguments, **keywords)

    monkeypatch.setattr(Progress, "__init__", init)
    settings = {"run": {"progress": setting}, "data": {"shards": 1}}
    rcdp_hpc.prepare(settings, tmp_path / "run", data=(X, Y), progress=asked)
    assert shown
    assert set(shown) == {asked and setting}
    # The run records its settings, not what this call asked for.
    assert RunDirectory(tmp_path / "run").config().run.progress == setting


def test_a_notebook_shows_a_bar(monkeypatch, capsys):
    class Shell:
        kernel = None

    class IPython:
        @staticmethod
        def get_ipython():
            return Shell()

    assert Progress("rows", 3).bar is None
    monkeypatch.setitem(sys.modules, "IPython", IPython)
    with Progress("rows", 3) as bar:
        bar.advance(3)
        assert bar.bar is not None
    assert "0/3" in capsys.readouterr().err
