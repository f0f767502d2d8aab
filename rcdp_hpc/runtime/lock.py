"""The lock of a run directory: one job at a time, and no lock outlives its job for long.

The lock file names host, process, job and a heartbeat. It is taken over at once if its holder is known to be gone
(on this machine, or the same Slurm job before it was requeued). A holder that cannot be asked, on another machine, is
judged by its heartbeat: one of the last `STALE_SECONDS` is alive, an older one or one in the future is watched, since
clocks differ, and the lock is taken over if it does not change for `WATCH_SECONDS`.
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
from rcdp_hpc.runtime.lock_file import HEARTBEAT_SECONDS, STALE_SECONDS, Holder, Seen, read_lock
from rcdp_hpc.runtime.owners import temporary_name, this_process

log = logging.getLogger(__name__)

WATCH_SECONDS = 35.0
GLANCE_SECONDS = 0.5
# A lock without content may be half written, on file systems without hard links.
HALF_WRITTEN_SECONDS = 2.0
GUARD_SECONDS = 10.0
RELEASE_SECONDS = 2.0

# Tokens of the locks that this process holds.
_HELD: set[str] = set()


class RunLock:
    """Hold a run directory for this process, as a context manager.

    Parameters
    ----------
    path : Path
        The lock file.

    Attributes
    ----------
    replaced : str
        Tag of the process whose lock was taken over; empty if there was none.

    Raises
    ------
    InputError
        On entry, if another job holds the directory, or the lock's place is taken by what is no file.
    StoppedError
        On entry, if a stop signal came while another lock was watched.
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
        except OSError as failure:  # the next start finds that nobody holds it
            log.warning("%s: the lock cannot be removed (%s)", self.path, failure.strerror)
        finally:
            _HELD.discard(self._holder.token)

    def _remove(self) -> None:
        """Remove the lock if it is this one: again, where a file stays that another process is just reading (FUSE)."""
        until = time.monotonic() + RELEASE_SECONDS
        while (seen := read_lock(self.path)) is not None and self._is_mine(seen) and time.monotonic() < until:
            self.path.unlink(missing_ok=True)
            if not self.path.exists():
                return
            time.sleep(RELEASE_SECONDS / 20)

    def _is_mine(self, seen: Seen) -> bool:
        return seen.holder is not None and seen.holder.token == self._holder.token

    def _create(self) -> bool:
        """Put the lock in place unless there is one: link() is atomic on NFS as well, and never shows half a file."""
        mine = self._beside("")
        _write_new(mine, self._text())
        try:
            os.link(mine, self.path)
            return True
        except FileExistsError:
            return False
        except OSError:
            return self._create_without_links()
        finally:
            _discard(mine)

    def _create_without_links(self) -> bool:
        """Put the lock in place on a file system that has no hard links."""
        try:
            _write_new(self.path, self._text())
            return True
        except FileExistsError:
            return False

    def _text(self) -> bytes:
        return (json.dumps(sealed(self._holder.content())) + "\n").encode()

    def _beside(self, end: str) -> Path:
        """Return a temporary name next to the lock."""
        return self.path.with_name(temporary_name(self.path.name, self._holder.token[:12] + end))

    def _take_over_or_refuse(self) -> None:
        seen = self._readable()
        if seen is None:
            return
        if not seen.is_file:
            raise InputError(
                f"{self.path}: {seen.problem}, and the lock of the job that works in {self.path.parent} belongs there. "
                "Move it away, or choose another --out."
            )
        life = "gone" if _is_forgotten(seen) else seen.life(self._now())
        if life == "alive":
            raise InputError(self._in_use(seen))
        if life == "unknown" and self._changes(seen):
            raise InputError(self._in_use(replace(seen, changed=self._now())))
        self._take_over(seen)

    def _readable(self) -> Seen | None:
        """Return the lock; wait a moment if it has no holder yet, since it may be half written."""
        until = time.monotonic() + HALF_WRITTEN_SECONDS
        while True:
            seen = read_lock(self.path)
            if seen is None or seen.holder or not seen.is_file or time.monotonic() > until:
                return seen
            time.sleep(HALF_WRITTEN_SECONDS / 20)

    def _in_use(self, seen: Seen) -> str:
        since = max(0.0, self._now() - seen.changed)
        if seen.holder and seen.holder.process.life() == "alive":
            way_out = "It runs on this machine: wait for it to end, stop it, or choose another --out."
        else:
            way_out = (
                "Wait for it to end or choose another --out. If that job is gone, start again "
                f"{STALE_SECONDS:.0f} s after it was last seen: its lock is then taken over."
            )
        return f"{self.path.parent} is in use by {seen}, last seen {since:.0f} s ago. {way_out}"

    def _changes(self, seen: Seen) -> bool:
        """Watch a lock whose holder cannot be asked, and return whether it changes."""
        log.warning(
            "%s: %s cannot be asked from here, and its last heartbeat is %s: watching the lock for %.0f s, and taking "
            "it over if it does not change",
            *(self.path, seen, _age_text(self._now() - seen.changed), WATCH_SECONDS),
        )
        until = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < until:
            time.sleep(GLANCE_SECONDS)
            signals.raise_if_stopped("watching a lock")
            if not seen.is_the_same(read_lock(self.path)):
                return True
        return False

    def _take_over(self, seen: Seen) -> None:
        """Remove a lock whose holder is gone: of several that found it so, one alone may."""
        aside = self._beside("aside")
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
            log.warning("took over %s from %s, which is gone", self.path.parent, seen)
        else:
            # It may be a file of the user's.
            kept = self.path.with_name(f"lock.unreadable-{self._holder.token[:8]}")
            os.rename(aside, kept)
            log.warning(
                "took over %s: its lock could not be read (%s) and did not change. It is kept as %s",
                *(self.path.parent, seen.problem, kept.name),
            )

    def _give_back(self, aside: Path) -> None:
        """Put back a lock that another job made in the moment before it was moved; never over a third one."""
        with contextlib.suppress(FileExistsError):
            try:
                os.link(aside, self.path)
            except FileExistsError:
                raise
            except OSError:  # no hard links
                _write_new(self.path, aside.read_bytes())
        _discard(aside)

    def _now(self) -> float:
        """Return the time by the clock of the file system, which may be that of a server."""
        probe = self._beside("clock")
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
        """Show that this process works: by the time of the file, or where that cannot be set by its content."""
        try:
            os.utime(self.path)
        except OSError:
            try:
                self._holder = replace(self._holder, beat=self._holder.beat + 1)
                self._overwrite()
            except OSError as error:  # a file server that fails for a moment; the next beat may get through
                log.warning("%s: heartbeat failed (%s)", self.path, error.strerror)

    def _restore(self, seen: Seen) -> bool:
        """Write the lock again if its content was damaged; return whether it is still this job's.

        A server that does not answer, or a file that cannot be read for a moment, is no reason to stop either.
        """
        again = read_lock(self.path)
        if again is None or not again.is_file:
            return False
        if again.holder is not None:
            return self._is_mine(again)
        log.warning("%s: damaged (%s); written again", self.path, again.problem)
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

    def _leave(self, seen: Seen | None) -> None:
        """End this process: not one more file may be written here, the directory is another job's."""
        if self._released.is_set():
            return
        what = "was removed" if seen is None else f"is now that of {seen}"
        log.error("%s %s: stopping, since another job may work there. Start again to continue", self.path, what)
        os._exit(EXIT_FAILED)


def _is_forgotten(seen: Seen) -> bool:
    """Return whether a lock names this very process, which does not hold it: it could not be removed."""
    holder = seen.holder
    return holder is not None and holder.process == this_process() and holder.token not in _HELD


def _age_text(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds >= 0 else f"{-seconds:.0f} s in the future"


def _discard(path: Path) -> None:
    """Remove a file that nobody needs; if that fails, a later start does it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist yet; nothing is left of it if that fails."""
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
    """Let one process at a time remove a lock that was left, on file systems that can lock files.

    On others, jobs that take over the same lock in the same moment are told apart by what they moved aside.
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
    """Return an open file that is locked for this process and still in its place; -1 if that cannot be had."""
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
        except OSError:  # no locks on this file system
            os.close(handle)
            path.unlink(missing_ok=True)
            return -1
        os.close(handle)
        time.sleep(0.05)
    return -1
