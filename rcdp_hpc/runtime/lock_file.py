"""Reading lock files: the holder of a lock, and whether the holder still runs.

A lock may have any content: an incomplete record after a power failure, a file of the user, or a folder instead of a
file. Reading it always returns a `LockState` and never raises an error.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcdp_hpc.errors import RcdpError
from rcdp_hpc.runtime.comm.launch import number_from_environment
from rcdp_hpc.runtime.digests import check_sealed
from rcdp_hpc.runtime.json_text import parse_json
from rcdp_hpc.runtime.owners import Life, Process, this_process

HEARTBEAT_SECONDS = 10.0
# A lock with a younger heartbeat is in use. A lock with an older heartbeat, or one in the future, is watched.
STALE_SECONDS = 120.0
# File systems round times, FAT to two seconds.
CLOCK_SECONDS = 5.0
# Larger than any lock that this package writes.
LIMIT_BYTES = 65_536


@dataclass(frozen=True)
class Holder:
    """The holder of a lock.

    Attributes
    ----------
    token : str
        Unique to the lock.
    host : str
    process : Process
    job : str
        Number of the Slurm job; empty outside Slurm.
    restarts : int
        Number of times that the Slurm job was requeued.
    beat : int
        Counter of heartbeats, for file systems that do not store times.
    """

    token: str
    host: str
    process: Process
    job: str = ""
    restarts: int = 0
    beat: int = 0

    @classmethod
    def here(cls, token: str) -> Holder:
        """Return this process as the holder."""
        restarts = number_from_environment("SLURM_RESTART_COUNT", 0)
        return cls(token, socket.gethostname(), this_process(), os.environ.get("SLURM_JOB_ID", ""), restarts)

    @classmethod
    def of(cls, content: dict[str, Any]) -> Holder:
        """Return the holder from the content of a lock.

        Raises
        ------
        ValueError
            If the content has no valid holder.
        """
        numbers = [content.get(name) for name in ("pid", "started", "restarts", "beat")]
        words = [content.get(name) for name in ("token", "host", "machine", "job")]
        if not all(type(number) is int and number >= 0 for number in numbers) or not content.get("token"):
            raise ValueError("it does not name a holder")
        if not all(isinstance(word, str) for word in words):
            raise ValueError("it does not name a holder")
        pid, started, restarts, beat = numbers
        token, host, machine, job = words
        return cls(token, host, Process(machine, pid, started), job, restarts, beat)  # type: ignore[arg-type]

    def content(self) -> dict[str, Any]:
        """Return the content of the lock file."""
        return {
            "token": self.token,
            "host": self.host,
            "machine": self.process.machine,
            "pid": self.process.pid,
            "started": self.process.started,
            "job": self.job,
            "restarts": self.restarts,
            "beat": self.beat,
        }

    def life(self) -> Life:
        """Return whether the holder still runs, without regard to its heartbeat."""
        same_job = bool(self.job) and self.job == os.environ.get("SLURM_JOB_ID")
        if same_job and number_from_environment("SLURM_RESTART_COUNT", 0) > self.restarts:
            return "gone"
        return self.process.life()

    def __str__(self) -> str:
        job = f" of job {self.job}" if self.job else ""
        return f"process {self.process.pid}{job} on host {self.host}"


@dataclass(frozen=True)
class LockState:
    """A lock file at one moment.

    Attributes
    ----------
    holder : Holder or None
        None if the content is not a lock of this package.
    problem : str
        Why there is no holder; empty if there is one.
    is_file : bool
        Whether the path is a regular file.
    changed : float
        Time of the last change, by the clock of the file system; 0 if unknown.
    content : bytes
    """

    holder: Holder | None
    problem: str = ""
    is_file: bool = True
    changed: float = 0.0
    content: bytes = b""

    def __str__(self) -> str:
        return str(self.holder) if self.holder else f"an unknown process (its lock cannot be read: {self.problem})"

    def is_the_same(self, other: LockState | None) -> bool:
        """Return whether content and heartbeat have not changed between two readings."""
        return other is not None and (self.changed, self.content) == (other.changed, other.content)

    def life(self, now: float) -> Life:
        """Return whether the holder still runs; "unknown" if only watching the lock can show it.

        Parameters
        ----------
        now : float
            Time by the clock of the file system.
        """
        life = self.holder.life() if self.holder else "unknown"
        if life != "unknown":
            return life
        return "alive" if -CLOCK_SECONDS <= now - self.changed <= STALE_SECONDS else "unknown"


def read_lock(path: Path) -> LockState | None:
    """Return the state of a lock, without waiting and without reading large files; None if it does not exist."""
    try:
        # Do not wait for a pipe, and do not follow a link: neither is a lock.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return _unopened(path, error)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return LockState(None, _kind(status.st_mode), is_file=False, changed=status.st_mtime)
        with os.fdopen(os.dup(handle), "rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        return LockState(None, error.strerror or str(error))
    finally:
        os.close(handle)
    holder, problem = _parsed(content)
    return LockState(holder, problem, changed=status.st_mtime, content=content)


def current_holder(path: Path) -> LockState | None:
    """Return the lock of the job that uses the run directory; None if there is none. Does not write or wait.

    A lock of another machine counts as held until `STALE_SECONDS` after its last heartbeat by this machine's clock.
    """
    seen = read_lock(path)
    if seen is None:
        return None
    now = time.time()
    return seen if seen.life(now) == "alive" or seen.changed > now else None


def _unopened(path: Path, error: OSError) -> LockState | None:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return None
    try:
        status = path.lstat()
    except OSError:
        return LockState(None, error.strerror or str(error))
    if not stat.S_ISREG(status.st_mode):
        return LockState(None, _kind(status.st_mode), is_file=False, changed=status.st_mtime)
    return LockState(None, error.strerror or str(error), changed=status.st_mtime)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "it is a folder"
    if stat.S_ISLNK(mode):
        return "it is a link"
    return "it is a pipe, a socket or a device"


def _parsed(content: bytes) -> tuple[Holder | None, str]:
    if len(content) > LIMIT_BYTES:
        return None, "it is larger than any lock"
    if not content.strip():
        return None, "it is empty"
    try:
        return Holder.of(check_sealed(parse_json(content), "lock")), ""
    except (ValueError, RcdpError):
        return None, "it is not a lock that this version writes"
