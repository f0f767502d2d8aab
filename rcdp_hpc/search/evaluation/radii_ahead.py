"""Spectral radii of a rank's next candidates, computed ahead on cores that would be idle.

Each core runs a process of its own (`rcdp_hpc.search.evaluation.radius_worker`), since ARPACK holds the interpreter. A
process is started as a new program, never as a copy of the rank, which may hold connections of MPI and threads; it
imports neither MPI nor torch, and ends with its rank. No result depends on it: the code that computes a radius is the
same, in one thread.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import rcdp_hpc
from rcdp_hpc.runtime.logs import warn_once
from rcdp_hpc.search.evaluation.radius_worker import READY

log = logging.getLogger(__name__)

# Seed, nodes and number of connections.
Key = tuple[int, int, int]
# Variables by which launchers tell the ranks of a job; a worker is none.
LAUNCHERS = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "HYDRA_", "MPI_", "HOROVOD_")


class RadiiAhead:
    """Computes radii in processes beside this one.

    Parameters
    ----------
    workers : int
        Number of processes, at least 1. They start with the first call of `ask`.

    Attributes
    ----------
    taken : int
        Number of radii that were not computed by this process.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.taken = 0
        self._changed = threading.Condition()
        self._wanted: deque[Key] = deque()
        self._in_progress: set[Key] = set()
        self._found: dict[Key, float] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._closed = False

    def ask(self, keys: Iterable[Key]) -> None:
        """Compute these radii, in this order; radii that were asked for earlier are forgotten."""
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return
        self._start()
        with self._changed:
            self._found = {key: self._found[key] for key in wanted if key in self._found}
            known = self._found.keys() | self._in_progress
            self._wanted = deque(key for key in wanted if key not in known)
            self._changed.notify_all()

    def radius(self, key: Key) -> float | None:
        """Return a radius, after waiting for a process that is computing it; None if this process has to compute it."""
        with self._changed:
            if key in self._wanted:
                self._wanted.remove(key)
                return None
            while key in self._in_progress:
                self._changed.wait()
            found = self._found.get(key)
        self.taken += found is not None
        return found

    def close(self) -> None:
        """End the processes; another `ask` starts none."""
        with self._changed:
            self._closed = True
            self._wanted.clear()
            self._changed.notify_all()
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self) -> None:
        if self._processes or self._closed:
            return
        path = os.pathsep.join([str(Path(rcdp_hpc.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
        environment = {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "rcdp_hpc.search.evaluation.radius_worker"]
        for _ in range(self.workers):
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
                )
            except OSError as error:
                warn_once(log, "radii ahead", f"no process for spectral radii could be started ({error})")
                return
            self._processes.append(process)
            threading.Thread(target=self._serve, args=(process,), daemon=True).start()

    def _serve(self, process: subprocess.Popen[str]) -> None:
        """Pass wanted radii to a process until it ends."""
        if _exchanged(process) != READY:
            return
        while process.poll() is None:
            with self._changed:
                while not (self._wanted or self._closed):
                    self._changed.wait()
                if self._closed:
                    return
                key = self._wanted.popleft()
                self._in_progress.add(key)
            answer = _exchanged(process, " ".join(map(str, key)) + "\n")
            with self._changed:
                self._in_progress.discard(key)
                if answer not in ("", "-"):
                    self._found[key] = float.fromhex(answer)
                self._changed.notify_all()


def _exchanged(process: subprocess.Popen[str], line: str = "") -> str:
    """Return the next line of a process after sending it one, empty if it has ended."""
    if process.stdin is None or process.stdout is None:
        raise AssertionError("the process has no pipes")
    try:
        process.stdin.write(line)
        process.stdin.flush()
        return process.stdout.readline().strip()
    except (OSError, ValueError):  # ValueError: the pipe was closed
        return ""
