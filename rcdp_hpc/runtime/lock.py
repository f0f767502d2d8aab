"""The lock of a run directory, which one job holds at a time.

The lock file has host, process, job and a heartbeat. A lock is stale if its holder no longer exists (on this machine,
or the same Slurm job before it was requeued), and is then taken over at once. A holder on another machine cannot be
checked. It counts as alive if its heartbeat is younger than `STALE_SECONDS`. If the heartbeat is older, or in the
future because clocks differ, the lock is watched, and taken over if it does not change for `WATCH_SECONDS`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from rcdp_hpc.errors import EXIT_FAILED, InputError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.digests import sealed
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.lock_file import HEARTBEAT_SECONDS, STALE_SECONDS, Holder, LockState, read_lock
from rcdp_hpc.runtime.owners import temporary_name, this_process

log = logging.getLogger(__name__)

WATCH_SECONDS = 35.0
WATCH_POLL_SECONDS = 0.5
# On file systems without hard links, a lock without content may be incomplete for this long.
HALF_WRITTEN_SECONDS = 2.0
GUARD_SECONDS = 10.0
RELEASE_SECONDS = 2.0

# Tokens of the locks that this process holds.
_HELD: set[str] = set()


class RunLock:
    """A context manager that locks a run directory for this process.

    Parameters
    ----------
    path : Path
        The lock file.

    Attributes
    ----------
    replaced : str
        Tag of the process whose stale lock was taken over; empty if there was none.

    Raises
    ------
    InputError
        On entry, if another job holds the directory, or the path of the lock is not a regular file.
    StoppedError
        On entry, if a stop signal was received while another lock was watched.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replaced = ""
        self._holder = Holder.here(uuid.uuid4().hex)
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> RunLock:
        _HELD.add(self._holder.token)
        try:
            with os_errors_explained(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                while not self._create():
                    self._take_over_or_refuse()
        except BaseException:
            _HELD.discard(self._holder.token)
            raise
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._heart.join()
        try:
            self._remove()
        except OSError as failure:  # the next start recognises it as stale
            log.warning("%s: the lock cannot be removed (%s)", self.path, failure.strerror)
        finally:
            _HELD.discard(self._holder.token)

    def _remove(self) -> None:
        """Remove the lock if it is this process's; repeat it, because on FUSE a file in use by a reader may remain."""
        until = time.monotonic() + RELEASE_SECONDS
        while (seen := read_lock(self.path)) is not None and self._is_mine(seen) and time.monotonic() < until:
            self.path.unlink(missing_ok=True)
            if not self.path.exists():
                return
            time.sleep(RELEASE_SECONDS / 20)

    def _is_mine(self, seen: LockState) -> bool:
        return seen.holder is not None and seen.holder.token == self._holder.token

    def _create(self) -> bool:
        """Create the lock unless there is one. link() is atomic, also on NFS, and never shows an incomplete file."""
        new = self._temporary_path("")
        _write_new(new, self._text())
        try:
            os.link(new, self.path)
            return True
        except FileExistsError:
            return False
        except OSError:
            return self._create_without_links()
        finally:
            _discard(new)

    def _create_without_links(self) -> bool:
        """Create the lock on a file system without hard links."""
        try:
            _write_new(self.path, self._text())
            return True
        except FileExistsError:
            return False

    def _text(self) -> bytes:
        return (json.dumps(sealed(self._holder.content())) + "\n").encode()

    def _temporary_path(self, end: str) -> Path:
        """Return a temporary path in the folder of the lock."""
        return self.path.with_name(temporary_name(self.path.name, self._holder.token[:12] + end))

    def _take_over_or_refuse(self) -> None:
        seen = self._readable()
        if seen is None:
            return
        if not seen.is_file:
            raise InputError(
                f"{self.path}: {seen.problem}, but this is the path of the lock file of {self.path.parent}. Move it "
                "away, or choose another --out."
            )
        life = "gone" if _is_own_leftover(seen) else seen.life(self._now())
        if life == "alive":
            raise InputError(self._in_use(seen))
        if life == "unknown" and self._changes(seen):
            raise InputError(self._in_use(replace(seen, changed=self._now())))
        self._take_over(seen)

    def _readable(self) -> LockState | None:
        """Return the lock; if it has no holder, wait briefly, because it may be incomplete."""
        until = time.monotonic() + HALF_WRITTEN_SECONDS
        while True:
            seen = read_lock(self.path)
            if seen is None or seen.holder or not seen.is_file or time.monotonic() > until:
                return seen
            time.sleep(HALF_WRITTEN_SECONDS / 20)

    def _in_use(self, seen: LockState) -> str:
        since = max(0.0, self._now() - seen.changed)
        if seen.holder and seen.holder.process.life() == "alive":
            remedy = "It runs on this machine: wait for it to end, stop it, or choose another --out."
        else:
            remedy = (
                "Wait for it to end or choose another --out. If that job no longer exists, start again "
                f"{STALE_SECONDS:.0f} s after it was last seen: its lock is then taken over."
            )
        return f"{self.path.parent} is in use by {seen}, last seen {since:.0f} s ago. {remedy}"

    def _changes(self, seen: LockState) -> bool:
        """Watch a lock whose holder cannot be checked, and return whether it changes."""
        log.warning(
            "%s: its holder, %s, cannot be checked from this machine, and the last heartbeat is %s. Watching the lock "
            "for %.0f s and taking it over if it does not change",
            *(self.path, seen, _age_text(self._now() - seen.changed), WATCH_SECONDS),
        )
        until = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < until:
            time.sleep(WATCH_POLL_SECONDS)
            signals.raise_if_stopped("watching a lock")
            if not seen.is_the_same(read_lock(self.path)):
                return True
        return False

    def _take_over(self, seen: LockState) -> None:
        """Remove a stale lock. If several processes try to at the same time, only one succeeds."""
        aside = self._temporary_path("aside")
        with _guard(self.path.parent):
            if not seen.is_the_same(read_lock(self.path)):
                return
            try:
                os.rename(self.path, aside)
            except FileNotFoundError:
                return
            if not seen.is_the_same(read_lock(aside)):
                self._give_back(aside)
                return
        if seen.holder:
            self.replaced = seen.holder.process.tag
            _discard(aside)
            log.warning("%s: removed a stale lock: its holder %s no longer exists", self.path.parent, seen)
        else:
            # It may be a file of the user.
            copy = self.path.with_name(f"lock.unreadable-{self._holder.token[:8]}")
            os.rename(aside, copy)
            log.warning(
                "%s: replaced a lock that could not be read (%s) and did not change. It is kept as %s",
                *(self.path.parent, seen.problem, copy.name),
            )

    def _give_back(self, aside: Path) -> None:
        """Restore a lock that another job created just before it was moved away; never overwrite a newer one."""
        with contextlib.suppress(FileExistsError):
            try:
                os.link(aside, self.path)
            except FileExistsError:
                raise
            except OSError:  # no hard links
                _write_new(self.path, aside.read_bytes())
        _discard(aside)

    def _now(self) -> float:
        """Return the time by the clock of the file system, which may be the clock of a server."""
        probe = self._temporary_path("clock")
        _write_new(probe, b"")
        try:
            return probe.stat().st_mtime
        finally:
            _discard(probe)

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            seen = read_lock(self.path)
            if seen is not None and self._is_mine(seen):
                self._renew()
            elif seen is not None and seen.holder is None and self._released.wait(HALF_WRITTEN_SECONDS):
                return
            elif seen is None or seen.holder or not self._restore(seen):
                self._leave(seen)

    def _renew(self) -> None:
        """Write a heartbeat: set the time of the lock file, or its content if the time cannot be set."""
        try:
            os.utime(self.path)
        except OSError:
            try:
                self._holder = replace(self._holder, beat=self._holder.beat + 1)
                self._overwrite()
            except OSError as error:  # the file server may recover before the next heartbeat
                log.warning("%s: heartbeat failed (%s)", self.path, error.strerror)

    def _restore(self, seen: LockState) -> bool:
        """Write the lock again if its content is damaged; return whether the lock still belongs to this job.

        A server that does not respond, or a file that is briefly unreadable, does not end the job.
        """
        again = read_lock(self.path)
        if again is None or not again.is_file:
            return False
        if again.holder is not None:
            return self._is_mine(again)
        log.warning("%s: the lock was damaged (%s) and is written again", self.path, again.problem)
        try:
            self._overwrite()
        except OSError as error:
            log.warning("%s: cannot be written (%s)", self.path, error.strerror)
        return True

    def _overwrite(self) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            text = self._text()
            os.pwrite(handle, text, 0)
            os.ftruncate(handle, len(text))
        finally:
            os.close(handle)

    def _leave(self, seen: LockState | None) -> None:
        """End this process at once, because another job may use the directory now."""
        if self._released.is_set():
            return
        event = "was removed" if seen is None else f"now belongs to {seen}"
        log.error(
            "the lock %s %s: this job ends, because another one may use the directory. Start again to continue",
            *(self.path, event),
        )
        os._exit(EXIT_FAILED)


def _is_own_leftover(seen: LockState) -> bool:
    """Return whether a lock belongs to this process but is not held: an earlier removal has failed."""
    holder = seen.holder
    return holder is not None and holder.process == this_process() and holder.token not in _HELD


def _age_text(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds >= 0 else f"{-seconds:.0f} s in the future"


def _discard(path: Path) -> None:
    """Remove a temporary file; if that fails, a later start removes it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _write_new(path: Path, content: bytes) -> None:
    """Create and write a file that must not exist yet; remove it if writing fails."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            file.write(content)
            os.fsync(handle)
    except OSError:
        _discard(path)
        raise


@contextlib.contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Let one process at a time remove a stale lock, on file systems that support file locks.

    On other file systems, `RunLock._take_over` compares the file that it moved away with the lock that it had read.
    """
    path = folder / ".lock.takeover"
    handle = _locked(path)
    try:
        yield
    finally:
        if handle >= 0:
            path.unlink(missing_ok=True)
            os.close(handle)


def _locked(path: Path) -> int:
    """Return the descriptor of a file that this process has locked; -1 if it cannot be locked."""
    until = time.monotonic() + GUARD_SECONDS
    while time.monotonic() < until:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError:
            return -1
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:  # this file system has no file locks
            os.close(handle)
            path.unlink(missing_ok=True)
            return -1
        os.close(handle)
        time.sleep(0.05)
    return -1
