"""Heartbeats: the job ends, with a message that names the rank, when a rank is silent for run.stall_seconds.

A process that received SIGSTOP, runs on a frozen node, or is blocked in a dead file system reaches no collective, and
neither MPI nor Horovod notices. Waits are spread over the whole program and its libraries, so they are not watched one
by one. Instead, a thread of each rank sends short messages to rank 0, and rank 0 sends them to all ranks. The thread
also runs while the rank computes, so long computations do not count as silence, and a process that hangs cannot send.

- Ranks poll for messages every second and send one at least every 15 s, or 20 times per run.stall_seconds.
- Silence is counted in polls of the receiving rank, not by a clock: suspending the whole job does not count.
- Rank 0 reports silent ranks. If rank 0 is silent, the other ranks contact each other, and the lowest rank that is
  answering reports.
- A silent process on the same host is inspected. It is alive if it uses processor time, even if its thread cannot send
  because a library holds Python's global lock.
- The reporting rank first asks the others to end, so that each records the reason and releases its locks.

There are no messages before MPI has started and while it shuts down. In these phases all ranks wait for all, and a rank
that has waited too long looks for stopped processes of the job on its own host.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

import psutil

from rcdp_hpc.errors import EXIT_FAILED
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.comm.launcher import Launch

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
BEATS_PER_LIMIT = 20
LONGEST_BEAT_SECONDS = 15.0
# On slow disks, ranks may start minutes apart: earlier than this, only a visibly stopped process counts as late.
START_SECONDS = 120.0
# Number of heartbeats during which ranks that do not hear rank 0 contact each other.
CONTACT_BEATS = 3
# Time for the other ranks to record the reason after the end is announced, and again for this rank.
FAREWELL_SECONDS = 2.5
LEAVING_POLL_SECONDS = 0.1
# A process that uses less processor time than this between two inspections does not count as alive.
LEAST_CPU_SECONDS = 0.02
ALIVE, LEAVING, ENDING = b"a", b"l", b"e"
STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
# Variables that have the same value in all processes of a job.
JOB_VARIABLES = (
    "PMIX_NAMESPACE", "HOROVOD_GLOO_RENDEZVOUS_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID", "TORCHELASTIC_RUN_ID",
    "MASTER_PORT",
)  # fmt: skip

_hooks: list[Callable[[str], None]] = []


class Place(NamedTuple):
    """Where a rank runs: host, process namespace and process number within that namespace."""

    host: str
    namespace: str
    pid: int


class Channel(ABC):
    """Transport of heartbeats, used by one thread at a time.

    Attributes
    ----------
    rank, size : int
    places : dict of int to Place
        Places of the ranks that are known so far.
    cheap : bool
        Whether `receive` may be called every second. Otherwise it is called as often as `send`.
    """

    rank: int
    size: int
    places: dict[int, Place]
    cheap = True

    @abstractmethod
    def send(self, word: bytes, to: Sequence[int]) -> None:
        """Send `ALIVE`, `LEAVING` or `ENDING` to other ranks without waiting for them."""

    @abstractmethod
    def receive(self, sources: Sequence[int]) -> dict[int, bytes]:
        """Return the latest word from each rank that sent one since the last call, possibly not in `sources`."""

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End the job."""


class Watch:
    """A thread that exchanges heartbeats and ends the job when a rank is silent for too long.

    Parameters
    ----------
    seconds : float
        Allowed silence (``run.stall_seconds``).
    rank, size : int
    """

    def __init__(self, seconds: float, rank: int, size: int) -> None:
        self.seconds = seconds
        self.rank = rank
        self.size = size
        self.beat = min(LONGEST_BEAT_SECONDS, seconds / BEATS_PER_LIMIT)
        self.poll = min(POLL_SECONDS, self.beat)
        self.others = [other for other in range(size) if other != rank]
        self.waiting_for = "all ranks to start"
        self._waited = 0.0  # seconds without a channel
        self._channel: Channel | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._since_beat = self.beat
        self._silence = dict.fromkeys(self.others, 0.0)
        self._heard_once: set[int] = set()
        self._left: set[int] = set()
        # By rank: its silence when its processor time was first read, and that processor time, in seconds.
        self._cpu: dict[int, tuple[float, float]] = {}
        self._contact_beats = 0
        self._answers: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="rcdp-heartbeat", daemon=True)

    def start(self) -> None:
        """Start to wait for the other ranks, without a channel."""
        if self.size > 1:
            self._thread.start()

    def join(self, channel: Channel, all_started: bool) -> None:
        """Start to exchange heartbeats.

        Parameters
        ----------
        channel : Channel
        all_started : bool
            Whether all ranks are known to have started.
        """
        with self._lock:
            self._channel = channel
            if all_started:
                self._heard_once = set(self.others)

    def leave(self, waiting_for: str) -> Channel | None:
        """Stop exchanging heartbeats and limit the wait that follows; return the channel, which is no longer used.

        Parameters
        ----------
        waiting_for : str
            What this rank waits for next, for messages.
        """
        with self._lock:
            channel = self._channel
            self._channel = None
            self._waited = 0.0
            self.waiting_for = waiting_for
        return channel

    def leave_together(self) -> None:
        """Return when all ranks have called this, then end the watch. For launchers that wait for every process.

        Rank 0 announces that it leaves after all others have, and the others leave after rank 0.
        """
        channel, failures = self._channel, 0
        # The launcher's store ends with the launcher, and then there is nobody to wait for.
        while channel is not None and failures * LEAVING_POLL_SECONDS <= FAREWELL_SECONDS:
            with self._lock:
                self._since_beat = self.beat
                last = self.rank == 0 and self._left < set(self.others)
                worked = self._exchange(channel, LEAVING_POLL_SECONDS, ALIVE if last else LEAVING)
                failures = 0 if worked else failures + 1
                if not last and (self.rank == 0 or 0 in self._left):
                    break
            time.sleep(LEAVING_POLL_SECONDS)
        self.stop()

    def stop(self) -> None:
        """End the watch."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self.poll):
            with self._lock:
                if self._channel is None:
                    self._wait_without_channel()
                else:
                    self._exchange(self._channel, self.poll)

    def _wait_without_channel(self) -> None:
        """Count the seconds of a wait in which no messages can be sent; end the job if there are too many."""
        self._waited += self.poll
        # The lowest waiting rank reports: the others give it time to do so.
        if self._waited <= self.seconds + min(self.rank, 3) * 2 * FAREWELL_SECONDS:
            return
        stopped = stopped_ranks_on_host()
        if not stopped and self._waited <= max(self.seconds, START_SECONDS):
            return
        host = socket.gethostname()
        named = ", ".join(f"rank {rank} on host {host} (process {pid}) is stopped" for rank, pid in stopped)
        why = named or f"no process of the job on {host} is stopped, so look at the other hosts"
        self._end(
            f"rank {self.rank} waited {self._waited:.0f} s for {self.waiting_for} (run.stall_seconds = "
            f"{self.seconds:g}): {why}.",
            None,
        )

    def _exchange(self, channel: Channel, seconds: float, word: bytes = ALIVE) -> bool:
        """Send and receive heartbeats, `seconds` after the last time, and act on ranks that are silent.

        Returns
        -------
        bool
            Whether the channel worked.
        """
        self._since_beat += seconds
        is_due = self._since_beat >= self.beat
        watched = self.others if self.rank == 0 or self._contact_beats else [0]
        try:
            if is_due:
                self._since_beat = 0.0
                channel.send(word, watched)
            words = channel.receive(watched) if is_due or channel.cheap else {}
        except Exception as error:
            # A failed channel says nothing about the ranks. The launcher is about to end this rank, too.
            log.debug("no heartbeats: %s", error)
            return False
        if ENDING in words.values():
            self._over.set()
            _call_hooks("the job was ended because a rank did not respond")
            return True
        for rank in words:
            self._silence[rank] = 0.0
            self._cpu.pop(rank, None)
        self._heard_once.update(words)
        self._left |= {rank for rank, last_word in words.items() if last_word == LEAVING}
        for rank in set(watched) - set(words):
            self._silence[rank] += 0.0 if rank in self._left else seconds
        if self.rank == 0:
            self._check_all(channel)
        else:
            self._check_root(channel, set(words), is_due)
        return True

    def _check_all(self, channel: Channel) -> None:
        if any(self._is_late(rank, channel) for rank in self.others):
            # Ranks that stopped at about the same moment are reported together.
            stopped = dict(stopped_ranks_on_host())
            almost = [rank for rank in self.others if self._silence[rank] > self.seconds - 2 * self.beat]
            late = [rank for rank in almost if rank in self._heard_once or rank in stopped]
            self._end(self._silent(late or almost, channel), channel)

    def _check_root(self, channel: Channel, heard: set[int], is_due: bool) -> None:
        if not self._is_late(0, channel):
            self._contact_beats = 0
            self._answers = set()
            return
        self._answers |= heard
        self._contact_beats += is_due or not self._contact_beats
        is_lowest = min({self.rank, *self._answers}) == self.rank
        if self._contact_beats > (CONTACT_BEATS if is_lowest else 3 * CONTACT_BEATS):
            self._end(self._silent([rank for rank in self.others if rank not in self._answers], channel), channel)

    def _limit(self, rank: int) -> float:
        """Return the allowed silence of a rank in seconds."""
        return self.seconds if rank in self._heard_once else max(self.seconds, START_SECONDS)

    def _is_late(self, rank: int, channel: Channel) -> bool:
        """Return whether a rank has been silent for too long and is not seen to work."""
        if self._silence[rank] <= self.seconds:
            return False
        if self._silence[rank] > self._limit(rank):
            return not self._works(rank, channel.places.get(rank))
        return rank in dict(stopped_ranks_on_host())

    def _works(self, rank: int, place: Place | None) -> bool:
        """Return whether a process on this host uses processor time or is still being inspected; else False."""
        if place is None or place[:2] != this_place()[:2]:
            return False
        try:
            process = psutil.Process(place.pid)
            if process.status() in (*STOPPED, psutil.STATUS_ZOMBIE):
                return False
            used = sum(process.cpu_times()[:2])
        except psutil.Error:
            return False
        silence, used_before = self._cpu.setdefault(rank, (self._silence[rank], used))
        if self._silence[rank] - silence < 2 * POLL_SECONDS:
            return True
        if used - used_before < LEAST_CPU_SECONDS:
            return False
        self._silence[rank] = 0.0
        del self._cpu[rank]
        return True

    def _silent(self, ranks: Sequence[int], channel: Channel) -> str:
        place = this_place()
        here = {rank: place._replace(pid=pid) for rank, pid in stopped_ranks_on_host()}
        parts = [_describe(rank, {**here, **channel.places}.get(rank)) for rank in ranks]
        have = "has" if len(parts) == 1 else "have"
        return f"{', '.join(parts)} {have} not responded for {self.seconds:g} s (run.stall_seconds)."

    def _end(self, message: str, channel: Channel | None) -> None:
        """Report which ranks do not respond, let the other ranks record it, and end the job."""
        self._over.set()
        message = (
            f"{message} The job ends. Complete results are kept, and the same command continues from them. Look at "
            "that process and its node (its state in ps, the node's log), or increase run.stall_seconds."
        )
        # A blocked terminal or a dead file system must not keep this thread from ending the job.
        last = threading.Timer(3 * FAREWELL_SECONDS, _abort, (channel,))
        last.daemon = True
        last.start()
        announced = time.monotonic()
        if channel is not None:
            try:
                channel.send(ENDING, self.others)
                # A stopped rank that continues receives the announcement, too, and releases its locks.
                for _, pid in stopped_ranks_on_host():
                    os.kill(pid, signal.SIGCONT)
            except Exception as error:
                log.debug("the end could not be announced: %s", error)
        log.error("%s", message)
        time.sleep(max(0.0, announced + FAREWELL_SECONDS - time.monotonic()))
        # The hooks release locks while other threads of the program still run, so they come last.
        _call_hooks(message)
        _abort(channel)


@contextmanager
def at_end_of_job(hook: Callable[[str], None]) -> Iterator[None]:
    """Call `hook` with the reason if, within the block, the job is ended because a rank does not respond.

    The heartbeat thread calls the hooks, the newest first. A hook must be short and work in any state of the program.
    """
    _hooks.append(hook)
    try:
        yield
    finally:
        _hooks.remove(hook)


def this_place() -> Place:
    """Return the place of this process."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return Place(socket.gethostname(), namespace, os.getpid())


def stopped_ranks_on_host() -> list[tuple[int, int]]:
    """Return rank and process number of each stopped process of this job on this host."""
    job = _job(dict(os.environ), os.getppid())
    stopped = []
    for process in psutil.process_iter():
        try:
            if process.status() not in STOPPED:
                continue
            environ, parent = process.environ(), process.ppid()
        except psutil.Error:
            continue
        launch = detect(environ)
        if _job(environ, parent) == job and launch.size > 1:
            stopped.append((launch.rank, process.pid))
    return sorted(stopped)


def start_watch(seconds: float, launch: Launch) -> Watch:
    """Return a started watch, which waits for the other ranks of the job to start."""
    watch = Watch(seconds, launch.rank, launch.size)
    watch.start()
    return watch


def _job(environ: dict[str, str], parent: int) -> tuple[object, ...]:
    """Return values that identify a job on this host: variables of its launcher, or else the parent process."""
    common = tuple(environ.get(name) for name in JOB_VARIABLES)
    return common if any(common) else (parent,)


def _describe(rank: int, place: Place | None) -> str:
    if place is None:
        return f"rank {rank}"
    state = ""
    if place[:2] == this_place()[:2]:
        try:
            state = f", {psutil.Process(place.pid).status()}"
        except psutil.Error:
            state = ", which has ended"
    return f"rank {rank} on host {place.host} (process {place.pid}{state})"


def _call_hooks(message: str) -> None:
    for hook in reversed(_hooks[:]):
        try:
            hook(message)
        except Exception as error:
            log.debug("while the job ends: %s", error)


def _abort(channel: Channel | None) -> None:
    if channel is not None:
        channel.abort(EXIT_FAILED)
    os._exit(EXIT_FAILED)
