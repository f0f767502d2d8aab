"""Ranks that do not respond are named by the others in all kinds of waits, and the job ends."""

from __future__ import annotations

import os
import re
import signal
import time

import psutil
import pytest
from launch import finish, python, rcdp, run_ranks, start_ranks, wait_until
from whole_runs import flags, prepare_digits

from rcdp_hpc.runtime.comm import heartbeat
from rcdp_hpc.runtime.comm.heartbeat import ALIVE, ENDING, LEAVING, Channel, Place, Watch, at_end_of_job, this_place

LIMIT = 20.0
ELSEWHERE = Place("another-host", "", 1)


class FakeChannel(Channel):
    """A channel on which only some ranks are heard."""

    def __init__(self, rank: int, size: int, heard: dict[int, bytes] | None = None) -> None:
        self.rank, self.size, self.heard = rank, size, heard or {}
        self.places = dict.fromkeys(range(size), ELSEWHERE)
        self.sent: list[tuple[bytes, list[int]]] = []

    def send(self, word, to):
        self.sent.append((word, list(to)))

    def receive(self, sources):
        return dict(self.heard)

    def abort(self, code):
        raise SystemExit(code)


@pytest.fixture(autouse=True)
def _no_farewell(monkeypatch):
    monkeypatch.setattr(heartbeat, "FAREWELL_SECONDS", 0.0)
    # The timer that ends the process if the last message cannot be written.
    monkeypatch.setattr(heartbeat.threading, "Timer", lambda seconds, work, arguments: heartbeat.threading.Thread())


def watch_on(channel: FakeChannel) -> Watch:
    watch = Watch(LIMIT, channel.rank, channel.size)
    watch.join(channel, all_started=True)
    return watch


def poll(watch: Watch, channel: FakeChannel, seconds: float) -> None:
    for _ in range(int(seconds / watch.poll)):
        watch._exchange(channel, watch.poll)


def test_rank_0_names_all_silent_ranks(caplog):
    channel = FakeChannel(0, 4, {1: ALIVE})
    watch, reasons = watch_on(channel), []
    poll(watch, channel, LIMIT)
    with at_end_of_job(reasons.append), pytest.raises(SystemExit, match="1"):
        poll(watch, channel, 2)
    (record,) = caplog.records
    assert "rank 2 on host another-host (process 1), rank 3 on host another-host" in record.getMessage()
    assert "rank 1" not in record.getMessage()
    assert channel.sent[-1] == (ENDING, [1, 2, 3])
    assert reasons == [record.getMessage()]


def test_responding_ranks_are_waited_for_without_limit(caplog):
    for channel in FakeChannel(0, 3, {1: ALIVE, 2: ALIVE}), FakeChannel(2, 3, {0: ALIVE}):
        poll(watch_on(channel), channel, 100 * LIMIT)
        assert {word for word, _ in channel.sent} == {ALIVE}
    assert not caplog.records


def test_the_lowest_responding_rank_reports_a_silent_rank_0(caplog):
    lowest, other = FakeChannel(1, 4, {2: ALIVE}), FakeChannel(2, 4, {1: ALIVE})
    quiet = watch_on(other)
    poll(quiet, other, 1.2 * LIMIT)
    assert not caplog.records
    with pytest.raises(SystemExit):
        poll(watch_on(lowest), lowest, 1.5 * LIMIT)
    assert "rank 0 on host another-host (process 1), rank 3 on host another-host" in caplog.text
    # The end that rank 1 announces ends the watch of the other rank.
    other.heard, reasons = {1: ENDING}, []
    with at_end_of_job(reasons.append):
        poll(quiet, other, 1)
    assert reasons == ["the job was ended because a rank did not respond"]
    assert quiet._over.is_set()
    assert len(caplog.records) == 1


def test_a_silent_process_that_uses_processor_time_is_waited_for(caplog, monkeypatch):
    channel, used = FakeChannel(0, 2), []

    class Busy(psutil.Process):
        def cpu_times(self):
            used.append(len(used))
            return (used[-1], 0.0)

    monkeypatch.setattr(heartbeat.psutil, "Process", Busy)
    channel.places[1] = this_place()
    watch = watch_on(channel)
    poll(watch, channel, 5 * LIMIT)
    assert not caplog.records
    monkeypatch.setattr(Busy, "cpu_times", lambda self: (9.0, 0.0))
    with pytest.raises(SystemExit):
        poll(watch, channel, 1.5 * LIMIT)
    assert f"process {os.getpid()}, " in caplog.text


def test_a_failing_channel_ends_no_job(caplog):
    class Broken(FakeChannel):
        def receive(self, sources):
            raise OSError("no route to host")

    channel = Broken(0, 2)
    poll(watch_on(channel), channel, 3 * LIMIT)
    assert not caplog.records


def test_all_ranks_leave_together():
    first, second = FakeChannel(0, 2, {1: LEAVING}), FakeChannel(1, 2, {0: LEAVING})
    for channel in first, second:
        watch_on(channel).leave_together()
        assert channel.sent[-1][0] == LEAVING


# A rank stops while the others wait in MPI's start, in a message, or in MPI's end.
STOPS = """
import os, signal, sys
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.logs import log_to_terminal
from rcdp_hpc.runtime.comm.connect import connect

def stop(here):
    if [here, str(detect().rank)] == sys.argv[1:]:
        os.kill(os.getpid(), signal.SIGSTOP)

log_to_terminal(detect().rank == 0)
stop("start")
comm = connect(2)
stop("message")
comm.broadcast(7)
stop("end")
"""


@pytest.mark.mpi
@pytest.mark.parametrize(("where", "rank"), [("start", 1), ("message", 0), ("end", 1)])
def test_a_stopped_rank_is_named_in_every_phase(where, rank):
    started = time.monotonic()
    done = run_ranks(3, [*python(STOPS), where, str(rank)], timeout=60)
    assert time.monotonic() - started < 60, done.stdout
    assert done.returncode == 1, done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("rcdp: error"))
    assert re.search(rf"rank {rank} on host \S+ \(process \d+", line), line
    assert "Traceback" not in done.stdout


@pytest.mark.mpi
def test_a_search_ended_by_a_stopped_rank_resumes_to_the_same_bits(tmp_path):
    settings = flags(
        "reservoir.nodes=60", "reservoir.kernel=dense-fp32", "reservoir.batch_rows=256", "search.population=6",
        "search.generations=8", "run.stall_seconds=10",
    )  # fmt: skip
    out, alone = tmp_path / "run", tmp_path / "alone"
    for folder in out, alone:
        prepare_digits(folder, settings)
    search = rcdp("search", "digits", "--out", str(out), *settings)
    process = start_ranks(2, search)
    journal = out / "search/journal"
    wait_until(lambda: any(file.stat().st_size for file in journal.glob("*.jsonl")), process)
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.environ().get("OMPI_COMM_WORLD_RANK") == "1":
            child.send_signal(signal.SIGSTOP)
    done = finish(process, timeout=60)
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("has not responded for 10 s (run.stall_seconds)") == 1
    assert "rank 1 on host" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (out / "lock").exists()
    assert run_ranks(2, search, timeout=100).returncode == 0
    assert run_ranks(0, rcdp("search", "digits", "--out", str(alone), *settings), timeout=100).returncode == 0
    values = [(folder / "search/best.toml").read_text().partition("[timing]")[0] for folder in (out, alone)]
    assert values[0] == values[1]
