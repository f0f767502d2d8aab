"""The lock of a run directory: one job at a time, and no lock outlives its job for long.

The lock file names host, process, job and a heartbeat. It is taken over at once where its holder is known to be
gone (same host and the process is dead; same Slurm job, requeued), and after a silence of `STALE_SECONDS`
where the holder cannot be asked (another host).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from rcdp_hpc.errors import EXIT_FAILED, InputError
from rcdp_hpc.runtime.files import os_errors_explained, write_json
from rcdp_hpc.runtime.launch import number_from_environment

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
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            return self._create_without_links()
        finally:
            mine.unlink()

    def _create_without_links(self) -> bool:
        """Put the lock in place on a file system that has no hard links."""
        try:
            with open(self.path, "x", encoding="utf-8") as file:
                json.dump(self._content(), file)
            return True
        except FileExistsError:
            return False

    def _content(self) -> dict[str, Any]:
        return {
            "token": self._token,
            "host": socket.gethostname(),
            "namespace": _process_namespace(),
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "job": os.environ.get("SLURM_JOB_ID", ""),
            "restarts": number_from_environment("SLURM_RESTART_COUNT", 0),
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
            try:
                holder = read_lock(self.path)
                os.utime(self.path)
            except FileNotFoundError:
                holder = {}
            except OSError as error:  # a file server that stumbles; the next beat may get through
                log.warning("%s: heartbeat failed (%s)", self.path, error.strerror)
                continue
            if holder.get("token") != self._token:
                # Not one more file may be written here: the directory is another job's.
                log.error(
                    "%s was taken over by %s: stopping", self.path.parent, describe(holder) if holder else "another job"
                )
                os._exit(EXIT_FAILED)


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


def holder_is_gone(path: Path) -> bool:
    """Tell whether a lock was left behind by a job that is no more; writes nothing."""
    try:
        silence = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False
    return _is_gone(read_lock(path), silence)


def _is_gone(holder: dict[str, Any], silence: float) -> bool:
    if holder["host"] == socket.gethostname() and holder["namespace"] == _process_namespace():
        return _is_dead(holder["pid"], holder.get("started"), silence)
    same_job = holder["job"] and holder["job"] == os.environ.get("SLURM_JOB_ID")
    if same_job and number_from_environment("SLURM_RESTART_COUNT", 0) > holder.get("restarts", 0):
        return True
    return silence > STALE_SECONDS


def _is_dead(pid: int, started: float | None, silence: float) -> bool:
    """Tell whether a process of this host is no more, though another may bear its number."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return True
        another = started is not None and abs(process.create_time() - started) >= 2
    except psutil.NoSuchProcess:
        return True
    # A stepped clock shifts start times, too: they alone do not condemn a holder that is heard of.
    return another and silence > 3 * HEARTBEAT_SECONDS


def _process_namespace() -> str:
    """Return the name of this machine's process numbering: containers on one host may each have their own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
