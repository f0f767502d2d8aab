"""Heartbeats: each rank shows the others that it runs, and one that shows nothing for run.stall_seconds ends the job.

A process under SIGSTOP, on a node that froze or lost its power, or blocked in a dead file system, comes to no
collective any more, and neither MPI nor Horovod notices. Waits are spread over the whole program, some of them inside
libraries. So no single wait is watched: a thread of each rank sends short messages to rank 0, and rank 0 sends them to
all. The thread also runs while the rank works, for hours if need be, and a process that stands still cannot send. Thus
no stage has to be patient by itself, and long work ends no job.

- Ranks look for messages every second, and send them 20 times in the patience, at least every 15 s.
- Silence is counted in a rank's own looks, not by a clock: a job that was suspended as a whole condemns nobody.
- Rank 0 names the ranks that it does not hear. If rank 0 is silent, the others call one another, and the lowest of
  those that answer speaks.
- A silent process of the same host is looked up: one that uses its processor lives, whatever keeps its thread from
  sending (a library that holds Python's lock).
- Whoever speaks asks the others to end first, so that each records the reason and gives up its locks.

Before MPI has started and while it ends there are no messages. Then all wait for all, and a rank that has waited too
long looks for stopped processes of the job on its own host.
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
from rcdp_hpc.runtime.comm.launch import Launch, detect

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
BEATS = 20  # in the patience
LONGEST_BEAT = 15.0
# Ranks start one after another, on slow disks minutes apart: only a process that is seen to be stopped is late before.
START_SECONDS = 120.0
CALLS = 3  # beats, in which ranks that do not hear rank 0 call one another
# From the end's announcement on, for the other ranks to record it; and then for this one.
FAREWELL_SECONDS = 2.5
LEAVING_LOOK_SECONDS = 0.1
LEAST_CPU_SECONDS = 0.02
ALIVE, LEAVING, ENDING = b"a", b"l", b"e"
STOPPED = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
# What the processes of one job have in common, by launcher.
JOB_VARIABLES = ("PMIX_NAMESPACE", "HOROVOD_GLOO_RENDEZVOUS_PORT", "SLURM_JOB_ID", "SLURM_STEP_ID")

_hooks: list[Callable[[str], None]] = []


class Place(NamedTuple):
    """Where a rank runs; processes are numbered within a namespace."""

    host: str
    namespace: str
    pid: int


class Channel(ABC):
    """What heartbeats travel through, used by one thread at a time.

    Attributes
    ----------
    rank, size : int
    places : dict of int to Place
        As far as they are known.
    cheap : bool
        Whether `receive` may be called every second; otherwise it is called as often as `send`.
    """

    rank: int
    size: int
    places: dict[int, Place]
    cheap = True

    @abstractmethod
    def send(self, word: bytes, to: Sequence[int]) -> None:
        """Send one of the words `ALIVE`, `LEAVING` and `ENDING` to other ranks, without waiting for them."""

    @abstractmethod
    def receive(self, sources: Sequence[int]) -> dict[int, bytes]:
        """Return the last word of each rank that sent one since the last call, possibly of more than `sources`."""

    @abstractmethod
    def abort(self, code: int) -> NoReturn:
        """End the job."""


class Watch:
    """A thread that watches over the other ranks of the job.

    Parameters
    ----------
    seconds : float
        The patience (``run.stall_seconds``).
    rank, size : int
    launcher : str
        For messages.
    """

    def __init__(self, seconds: float, rank: int, size: int, launcher: str) -> None:
        self.seconds, self.rank, self.size, self.launcher = seconds, rank, size, launcher
        self.beat = min(LONGEST_BEAT, seconds / BEATS)
        self.look = min(LOOK_SECONDS, self.beat)
        self.others = [other for other in range(size) if other != rank]
        self.waiting_for = "all ranks to start"
        self._waited = 0.0  # without a channel
        self._channel: Channel | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._since_beat = self.beat
        self._silence = dict.fromkeys(self.others, 0.0)
        self._heard_once: set[int] = set()
        self._left: set[int] = set()
        self._cpu: dict[int, tuple[float, float]] = {}  # the silence at which it was read, and processor seconds
        self._calls, self._answers = 0, set[int]()
        self._thread = threading.Thread(target=self._run, name="rcdp-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to wait for the other ranks; there is no channel yet."""
        if self.size > 1:
            self._thread.start()

    def join(self, channel: Channel, all_started: bool) -> None:
        """Exchange heartbeats from here on.

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
        """Exchange nothing from here on, and be as patient with what follows; return the channel, free for others."""
        with self._lock:
            channel, self._channel, self._waited, self.waiting_for = self._channel, None, 0.0, waiting_for
        return channel

    def leave_together(self) -> None:
        """Return when all ranks have called this, and end the watch: for launchers that wait for every process.

        Rank 0 says that it leaves when the others have said so, and they leave after it.
        """
        channel = self._channel
        while channel is not None:
            with self._lock:
                self._since_beat = self.beat
                last = self.rank == 0 and self._left < set(self.others)
                self._exchange(channel, LEAVING_LOOK_SECONDS, ALIVE if last else LEAVING)
                if not last and (self.rank == 0 or 0 in self._left):
                    break
            time.sleep(LEAVING_LOOK_SECONDS)
        self.stop()

    def stop(self) -> None:
        """End the watch."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self.look):
            with self._lock:
                if self._channel is None:
                    self._wait_without_channel()
                else:
                    self._exchange(self._channel, self.look)

    def _wait_without_channel(self) -> None:
        """Count the wait in which nothing can be sent; end it when it was too long."""
        self._waited += self.look
        # Of the ranks that wait, the lowest speaks: the others give it time.
        if self._waited <= self.seconds + min(self.rank, 3) * 2 * FAREWELL_SECONDS:
            return
        stopped = stopped_ranks_on_host()
        if not stopped and self._waited <= max(self.seconds, START_SECONDS):
            return
        host = socket.gethostname()
        found = ", ".join(f"rank {rank} on host {host} (process {pid}) is stopped" for rank, pid in stopped)
        why = found or f"no process of the job on {host} is stopped, so see the other hosts"
        self._end(
            f"rank {self.rank} waited {self._waited:.0f} s for {self.waiting_for} (run.stall_seconds = "
            f"{self.seconds:g}): {why}.",
            None,
        )

    def _exchange(self, channel: Channel, seconds: float, word: bytes = ALIVE) -> None:
        """Send and look for heartbeats once, after some seconds without, and judge who is silent."""
        self._since_beat += seconds
        is_due = self._since_beat >= self.beat
        watched = self.others if self.rank == 0 or self._calls else [0]
        try:
            if is_due:
                self._since_beat = 0.0
                channel.send(word, watched)
            words = channel.receive(watched) if is_due or channel.cheap else {}
        except Exception as error:
            # What cannot be asked cannot be judged: the launcher is about to end this rank, too.
            log.debug("no heartbeats: %s", error)
            return
        if ENDING in words.values():
            self._over.set()
            _call_hooks("the job was ended, because a rank stood still")
            return
        for rank in words:
            self._silence[rank], self._cpu = 0.0, {key: value for key, value in self._cpu.items() if key != rank}
        self._heard_once.update(words)
        self._left |= {rank for rank, said in words.items() if said == LEAVING}
        for rank in set(watched) - set(words):
            self._silence[rank] += 0.0 if rank in self._left else seconds
        if self.rank == 0:
            self._judge_all(channel)
        else:
            self._judge_root(channel, set(words), is_due)

    def _judge_all(self, channel: Channel) -> None:
        if any(self._is_late(rank, channel) for rank in self.others):
            # Those that stopped at the same moment are named together.
            stopped = dict(stopped_ranks_on_host())
            almost = [rank for rank in self.others if self._silence[rank] > self.seconds - 2 * self.beat]
            late = [rank for rank in almost if rank in self._heard_once or rank in stopped]
            self._end(self._silent(late or almost, channel), channel)

    def _judge_root(self, channel: Channel, heard: set[int], is_due: bool) -> None:
        if not self._is_late(0, channel):
            self._calls, self._answers = 0, set()
            return
        self._answers |= heard
        self._calls += is_due or not self._calls
        first = min({self.rank, *self._answers}) == self.rank
        if self._calls > (CALLS if first else 3 * CALLS):
            self._end(self._silent([rank for rank in self.others if rank not in self._answers], channel), channel)

    def _limit(self, rank: int) -> float:
        """Return the silence of a rank that is too long."""
        return self.seconds if rank in self._heard_once else max(self.seconds, START_SECONDS)

    def _is_late(self, rank: int, channel: Channel) -> bool:
        """Tell whether a rank was silent for too long, and is not seen to work."""
        if self._silence[rank] <= self.seconds:
            return False
        if self._silence[rank] > self._limit(rank):
            return not self._works(rank, channel.places.get(rank))
        return rank in dict(stopped_ranks_on_host())

    def _works(self, rank: int, place: Place | None) -> bool:
        """Tell whether a process of this host runs, or is still being looked at."""
        if place is None or place[:2] != this_place()[:2]:
            return False
        try:
            process = psutil.Process(place.pid)
            if process.status() in (*STOPPED, psutil.STATUS_ZOMBIE):
                return False
            used = sum(process.cpu_times()[:2])
        except psutil.Error:
            return False
        silence, before = self._cpu.setdefault(rank, (self._silence[rank], used))
        if self._silence[rank] - silence < 2 * LOOK_SECONDS:
            return True
        if used - before < LEAST_CPU_SECONDS:
            return False
        self._silence[rank] = 0.0
        del self._cpu[rank]
        return True

    def _silent(self, ranks: Sequence[int], channel: Channel) -> str:
        stopped, own = dict(stopped_ranks_on_host()), this_place()
        here = {rank: own._replace(pid=pid) for rank, pid in stopped.items()}
        parts = [_describe(rank, {**here, **channel.places}.get(rank)) for rank in ranks]
        have = "has" if len(parts) == 1 else "have"
        return f"{', '.join(parts)} {have} not been heard of for {self.seconds:g} s (run.stall_seconds)."

    def _end(self, message: str, channel: Channel | None) -> None:
        """Report who stands still, let the other ranks record it, and end the job."""
        self._over.set()
        message = (
            f"{message} The job ends; what was complete is kept, and the same command continues from it. See what that "
            "process or its node does (its state in ps, the node's log), or raise run.stall_seconds."
        )
        # A terminal that takes no text or a dead file system must not keep this thread from ending the job.
        last = threading.Timer(3 * FAREWELL_SECONDS, _abort, (channel,))
        last.daemon = True
        last.start()
        announced = time.monotonic()
        if channel is not None:
            try:
                channel.send(ENDING, self.others)
                # A stopped rank that wakes hears of the end, too, and gives up its locks before it is killed.
                for _, pid in stopped_ranks_on_host():
                    os.kill(pid, signal.SIGCONT)
            except Exception as error:
                log.debug("the end could not be announced: %s", error)
        log.error("%s", message)
        time.sleep(max(0.0, announced + FAREWELL_SECONDS - time.monotonic()))
        # Last, since they give up locks, and the program's other threads still run.
        _call_hooks(message)
        _abort(channel)


@contextmanager
def at_end_of_job(hook: Callable[[str], None]) -> Iterator[None]:
    """Call `hook` with the reason if the job is ended within the block because a rank stands still.

    The thread that watches calls it, the newest hook first: it must take the program's state as it is, and be short.
    """
    _hooks.append(hook)
    try:
        yield
    finally:
        _hooks.remove(hook)


def this_place() -> Place:
    """Return where this process runs."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return Place(socket.gethostname(), namespace, os.getpid())


def stopped_ranks_on_host() -> list[tuple[int, int]]:
    """Return rank and process number of this job's processes on this host that are stopped."""
    own = _job(dict(os.environ), os.getppid())
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() not in STOPPED:
                continue
            environ, parent = process.environ(), process.ppid()
        except psutil.Error:
            continue
        launch = detect(environ)
        if _job(environ, parent) == own and launch.size > 1:
            found.append((launch.rank, process.pid))
    return sorted(found)


def start_watch(seconds: float, launch: Launch) -> Watch:
    """Return a watch that has begun to wait for the other ranks of a job."""
    watch = Watch(seconds, launch.rank, launch.size, launch.launcher)
    watch.start()
    return watch


def _job(environ: dict[str, str], parent: int) -> tuple[object, ...]:
    """Return what the processes of a job on this host have in common, by itself the process that started them."""
    common = tuple(environ.get(name) for name in JOB_VARIABLES)
    return common if any(common) else (parent,)


def _describe(rank: int, place: Place | None) -> str:
    if place is None:
        return f"rank {rank}"
    own = this_place()
    state = ""
    if place[:2] == own[:2]:
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
