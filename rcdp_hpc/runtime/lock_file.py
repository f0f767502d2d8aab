"""What a lock file says: its holder, and whether the holder still works.

A lock may hold anything: half of what was written when a node lost power, a file of the user's, a folder of that name.
Whatever it is, reading it gives a `Seen`, never an error.
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
# A lock whose heartbeat is younger is in use; an older one, or one in the future, is watched before it is judged.
STALE_SECONDS = 120.0
# File systems round times, FAT to two seconds.
CLOCK_SECONDS = 5.0
# More than any lock that this package writes.
LIMIT_BYTES = 65_536


@dataclass(frozen=True)
class Holder:
    """Who made a lock.

    Attributes
    ----------
    token : str
        Unique to the lock.
    host : str
    process : Process
    job, restarts : str, int
        Slurm's number of the job, and how many times it was requeued.
    beat : int
        Counts heartbeats where the file system does not keep times.
    """

    token: str
    host: str
    process: Process
    job: str = ""
    restarts: int = 0
    beat: int = 0

    @classmethod
    def here(cls, token: str) -> Holder:
        """Return this process as a holder."""
        restarts = number_from_environment("SLURM_RESTART_COUNT", 0)
        return cls(token, socket.gethostname(), this_process(), os.environ.get("SLURM_JOB_ID", ""), restarts)

    @classmethod
    def of(cls, content: dict[str, Any]) -> Holder:
        """Return the holder that a lock's content names; a `ValueError` if it names none."""
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
        """Return what the lock file holds."""
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
        """Return whether the holder still runs, as far as can be known without its heartbeat."""
        same_job = bool(self.job) and self.job == os.environ.get("SLURM_JOB_ID")
        if same_job and number_from_environment("SLURM_RESTART_COUNT", 0) > self.restarts:
            return "gone"
        return self.process.life()

    def __str__(self) -> str:
        job = f" of job {self.job}" if self.job else ""
        return f"process {self.process.pid}{job} on host {self.host}"


@dataclass(frozen=True)
class Seen:
    """A lock file at one moment.

    Attributes
    ----------
    holder : Holder or None
        None if the content is not a lock of this package.
    problem : str
        Why there is no holder; empty if there is one.
    is_file : bool
        Whether it is a regular file.
    changed : float
        Time of its last change, by the clock of the file system; 0 if it cannot be read.
    content : bytes
    """

    holder: Holder | None
    problem: str = ""
    is_file: bool = True
    changed: float = 0.0
    content: bytes = b""

    def __str__(self) -> str:
        return str(self.holder) if self.holder else f"an unknown process (its lock cannot be read: {self.problem})"

    def is_the_same(self, other: Seen | None) -> bool:
        """Return whether nothing has changed between two moments: neither content nor heartbeat."""
        return other is not None and (self.changed, self.content) == (other.changed, other.content)

    def life(self, now: float) -> Life:
        """Return whether the holder works; "unknown" if only watching the lock can show it.

        Parameters
        ----------
        now : float
            The time by the clock of the file system.
        """
        life = self.holder.life() if self.holder else "unknown"
        if life != "unknown":
            return life
        return "alive" if -CLOCK_SECONDS <= now - self.changed <= STALE_SECONDS else "unknown"


def read_lock(path: Path) -> Seen | None:
    """Return what is at the place of a lock; None if nothing is. Nothing is waited for, nothing large is read."""
    try:
        # A pipe is not waited for, and a link not followed: no lock is one.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return _unopened(path, error)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return Seen(None, _kind(status.st_mode), is_file=False, changed=status.st_mtime)
        with os.fdopen(os.dup(handle), "rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        return Seen(None, error.strerror or str(error))
    finally:
        os.close(handle)
    holder, problem = _parsed(content)
    return Seen(holder, problem, changed=status.st_mtime, content=content)


def current_holder(path: Path) -> Seen | None:
    """Return the lock of a job that works here, None if there is none; writes nothing and does not wait.

    A lock of another machine counts as held until `STALE_SECONDS` after its last heartbeat by this machine's clock.
    """
    seen = read_lock(path)
    if seen is None:
        return None
    now = time.time()
    return seen if seen.life(now) == "alive" or seen.changed > now else None


def _unopened(path: Path, error: OSError) -> Seen | None:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return None
    try:
        status = path.lstat()
    except OSError:
        return Seen(None, error.strerror or str(error))
    if not stat.S_ISREG(status.st_mode):
        return Seen(None, _kind(status.st_mode), is_file=False, changed=status.st_mtime)
    return Seen(None, error.strerror or str(error), changed=status.st_mtime)


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
