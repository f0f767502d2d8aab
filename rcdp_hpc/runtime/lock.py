"""The lock of a run directory: one job at a time, and no lock outlives its job for long.

The lock file names host, process, job and a heartbeat. It is taken over at once where its holder is known to be
gone (same host and the process is dead; same Slurm job, requeued), and after a silence of `STALE_SECONDS`
where the holder cannot be asked (another host).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.files import os_errors_explained, write_json

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 120.0


class RunLock:
    """Hold a run directory for this process, as a context manager.

    Parameters
    ----------
    path : Path
        The lock file.

    Raises
    ------
    InputError
        On entry, if another job holds the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = uuid.uuid4().hex
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> RunLock:
        with os_errors_explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while not self._create():
                self._take_over_or_refuse()
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._heart.join()
        if read_lock(self.path).get("token") == self._token:
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Put the lock in place unless there is one: link() is atomic on NFS as well, and never shows half a file."""
        mine = self.path.with_name(f".lock.{self._token}")
        write_json(mine, self._content())
        try:
            os.link(mine, self.path)
            return True
        except FileExistsError:
            return False
        finally:
            mine.unlink()

    def _content(self) -> dict[str, Any]:
        return {
            "token": self._token,
            "host": socket.gethostname(),
            "namespace": _process_namespace(),
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "job": os.environ.get("SLURM_JOB_ID", ""),
            "restarts": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        }

    def _take_over_or_refuse(self) -> None:
        holder = read_lock(self.path)
        if not holder:
            return
        age = self._silence()
        if not _is_gone(holder, age):
            raise InputError(
                f"{self.path.parent} is in use by {describe(holder)}, last seen {age:.0f} s ago. Wait for it to end or "
                f"choose another --out. If that job is gone, start again {STALE_SECONDS:.0f} s after it was last seen: "
                "its lock is then taken over."
            )
        aside = self.path.with_name(f".lock.{self._token}.stale")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if read_lock(aside).get("token") != holder["token"]:
            # Another job took the stale lock over first, and what was moved aside is its new one: give it back.
            os.rename(aside, self.path)
            return
        aside.unlink()
        log.warning("took over %s from %s, which is gone", self.path.parent, describe(holder))

    def _silence(self) -> float:
        """Seconds since the holder's last heartbeat, by the clock of the file system both write to."""
        probe = self.path.with_name(f".lock.{self._token}.clock")
        probe.touch()
        try:
            return max(0.0, probe.stat().st_mtime - self.path.stat().st_mtime)
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            holder = read_lock(self.path)
            if holder.get("token") != self._token:
                log.error(
                    "%s was taken over by %s: stopping", self.path.parent, describe(holder) if holder else "another job"
                )
                os.kill(os.getpid(), signal.SIGTERM)
                return
            try:
                os.utime(self.path)
            except OSError as error:
                log.warning("%s: heartbeat failed (%s)", self.path, error.strerror)


def read_lock(path: Path) -> dict[str, Any]:
    """Return who holds the lock; empty where nobody does."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        return {"token": "", "host": "?", "pid": 0, "job": "", "namespace": ""}
    return content


def describe(holder: dict[str, Any]) -> str:
    """Return a lock's holder in words."""
    job = f" of job {holder['job']}" if holder.get("job") else ""
    return f"process {holder['pid']}{job} on host {holder['host']}"


def _is_gone(holder: dict[str, Any], silence: float) -> bool:
    if holder["host"] == socket.gethostname() and holder["namespace"] == _process_namespace():
        return not _is_running(holder["pid"], holder.get("started"))
    same_job = holder["job"] and holder["job"] == os.environ.get("SLURM_JOB_ID")
    if same_job and int(os.environ.get("SLURM_RESTART_COUNT", "0")) > holder.get("restarts", 0):
        return True
    return silence > STALE_SECONDS


def _is_running(pid: int, started: float | None) -> bool:
    """Tell whether the very process is there: its number alone may have been given to another."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and (
            started is None or abs(process.create_time() - started) < 2
        )
    except psutil.NoSuchProcess:
        return False


def _process_namespace() -> str:
    """Return the name of this machine's process numbering: containers on one host may each have their own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
