from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime import lock, lock_file
from rcdp_hpc.runtime.digests import sealed
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.lock_file import Holder, current_holder, read_lock
from rcdp_hpc.runtime.owners import Process, this_process


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(lock, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(lock, "WATCH_POLL_SECONDS", 0.02)
    monkeypatch.setattr(lock, "HALF_WRITTEN_SECONDS", 0.02)


def holder_of(path):
    return read_lock(path).holder


def foreign(path, age=0.0, **changes):
    """Write the lock of a job on another machine, with a heartbeat `age` seconds ago."""
    holder = Holder("t", "elsewhere", Process("0123456789ab", 1, 1), "77")
    path.write_text(json.dumps(sealed({**holder.content(), **changes})))
    os.utime(path, (time.time() - age,) * 2)
    return path


def refused(path, match):
    with pytest.raises(InputError, match=match), RunLock(path):
        pass


def test_a_locked_directory_is_refused_and_its_holder_named(tmp_path):
    with RunLock(tmp_path / "lock"), pytest.raises(InputError) as error, RunLock(tmp_path / "lock"):
        pass
    assert f"process {os.getpid()}" in str(error.value)
    assert socket.gethostname() in str(error.value)
    assert "--out" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over_and_reported_once(tmp_path, caplog):
    code = (
        f"import time; from pathlib import Path; from rcdp_hpc.runtime.lock import RunLock\n"
        f"with RunLock(Path({str(tmp_path / 'lock')!r})): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    assert current_holder(tmp_path / "lock") is not None
    holder.kill()
    holder.wait()
    assert current_holder(tmp_path / "lock") is None
    # A heartbeat in the future does not matter, because the process can be checked.
    os.utime(tmp_path / "lock", (time.time() + 10_000,) * 2)
    with caplog.at_level("WARNING", logger="rcdp_hpc"), RunLock(tmp_path / "lock") as taken:
        assert holder_of(tmp_path / "lock").process == this_process()
        assert taken.replaced.split("-")[1] == str(holder.pid)
    assert caplog.text.count(f"process {holder.pid}") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_reused_process_number_is_not_a_holder(tmp_path):
    here = this_process()
    foreign(tmp_path / "lock", machine=here.machine, pid=here.pid, started=here.started - 100)
    with RunLock(tmp_path / "lock"):
        assert holder_of(tmp_path / "lock").process == here


def test_a_machine_of_the_same_name_is_another_machine(tmp_path):
    foreign(tmp_path / "lock", host=socket.gethostname(), pid=2**22 + 1)
    refused(tmp_path / "lock", "in use by process 4194305")


def test_a_lock_from_another_host_is_respected_until_its_heartbeat_is_old(tmp_path, caplog):
    path = foreign(tmp_path / "lock")
    refused(path, "job 77 on host elsewhere")
    foreign(path, age=lock.STALE_SECONDS + 5)
    with RunLock(path):
        assert holder_of(path).process.pid == os.getpid()
    assert "Watching the lock" in caplog.text


def test_a_lock_with_a_heartbeat_in_the_future_is_watched(tmp_path, caplog):
    with RunLock(foreign(tmp_path / "lock", age=-3600)):
        assert holder_of(tmp_path / "lock").process.pid == os.getpid()
    assert "3600 s in the future" in caplog.text


@pytest.mark.parametrize("age", [3600, -3600])
@pytest.mark.parametrize("by", ["time", "content"])
def test_a_changing_lock_is_kept_for_any_clock_difference(tmp_path, monkeypatch, age, by):
    path = foreign(tmp_path / "lock", age)
    glances = []

    def sleep(seconds):
        glances.append(seconds)
        if len(glances) == 3:
            foreign(path, age - (1 if by == "time" else 0), beat=1 if by == "content" else 0)

    monkeypatch.setattr(lock.time, "sleep", sleep)
    refused(path, "job 77 on host elsewhere, last seen 0 s ago")
    assert holder_of(path).token == "t"


def test_the_same_job_requeued_takes_over_at_once(tmp_path, monkeypatch, caplog):
    foreign(tmp_path / "lock")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with RunLock(tmp_path / "lock"):
        pass
    assert "watching" not in caplog.text


@pytest.mark.parametrize("by", ["time", "content"])
def test_the_heartbeat_is_renewed(tmp_path, monkeypatch, by):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    if by == "content":
        monkeypatch.setattr(lock.os, "utime", raises(OSError(95, "not supported")))
    path = tmp_path / "lock"
    with RunLock(path):
        first = read_lock(path)
        deadline = time.monotonic() + 5
        while first.is_the_same(read_lock(path)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not first.is_the_same(read_lock(path))
        assert holder_of(path).process == this_process()
    assert list(tmp_path.iterdir()) == []


def raises(error):
    def function(*arguments, **options):
        raise error

    return function


OTHER_CONTENT = {
    "empty": b"", "spaces": b" \n", "object": b"{}", "list": b"[]", "null": b"null", "number": b"7", "text": b'"lock"',
    "cut": b"{", "binary": bytes(range(256)), "deep": b"[" * 60_000, "large": b"x" * 200_000,
    "unsealed": json.dumps(Holder("t", "h", Process("m", 1, 1)).content()).encode(),
    "pid": json.dumps(sealed({**Holder("t", "h", Process("m", 1, 1)).content(), "pid": "1"})).encode(),
    "negative": json.dumps(sealed({**Holder("t", "h", Process("m", 1, 1)).content(), "pid": -1})).encode(),
    "truth": json.dumps(sealed({**Holder("t", "h", Process("m", 1, 1)).content(), "pid": True})).encode(),
    "job": json.dumps(sealed({**Holder("t", "h", Process("m", 1, 1)).content(), "job": ["1"]})).encode(),
    "nothing": json.dumps(sealed({})).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_CONTENT)
def test_an_unreadable_lock_is_respected_while_recent_and_then_kept_under_another_name(tmp_path, name, caplog):
    path = tmp_path / "lock"
    path.write_bytes(OTHER_CONTENT[name])
    assert str(current_holder(path)).startswith("an unknown process (its lock cannot be read: it is ")
    refused(path, "in use by an unknown process")
    os.utime(path, (0, 0))
    assert current_holder(path) is None
    with RunLock(path):
        assert holder_of(path).process == this_process()
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("lock.unreadable-")
    assert kept.read_bytes() == OTHER_CONTENT[name]
    assert kept.name in caplog.text


def make_fifo(path):
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (Path.mkdir, "a folder"),
        (lambda path: path.symlink_to("nowhere"), "a link"),
        (lambda path: path.symlink_to(path), "a link"),
        (make_fifo, "a pipe"),
    ],
)
def test_a_lock_that_is_not_a_file_is_refused_at_once(tmp_path, make, problem):
    path = tmp_path / "lock"
    make(path)
    refused(path, f"lock: it is {problem}.* Move it away")
    assert os.path.lexists(path)
    assert [one.name for one in tmp_path.iterdir()] == ["lock"]


def test_an_incomplete_lock_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HALF_WRITTEN_SECONDS", 5.0)
    path = tmp_path / "lock"
    path.touch()
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: foreign(path))
    refused(path, "job 77 on host elsewhere")


@pytest.mark.parametrize("number", [1, 38, 95])
def test_file_systems_without_hard_links(tmp_path, monkeypatch, number):
    monkeypatch.setattr(lock.os, "link", raises(OSError(number, os.strerror(number))))
    path = tmp_path / "lock"
    with RunLock(path):
        refused(path, f"process {os.getpid()}")
    with RunLock(foreign(path, age=1000)):
        assert holder_of(path).process == this_process()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_removed_does_not_stop_its_process(tmp_path, monkeypatch, caplog):
    path = tmp_path / "lock"
    with RunLock(path):
        monkeypatch.setattr(lock.Path, "unlink", raises(OSError(116, "Stale file handle")))
    monkeypatch.undo()
    assert "cannot be removed (Stale file handle)" in caplog.text
    assert path.exists()
    with RunLock(path):
        pass
    assert not path.exists()


def test_a_lock_that_remains_while_it_is_read_is_removed_again(tmp_path, monkeypatch):
    unlink, asked = Path.unlink, []

    def late(path, missing_ok=False):
        asked.append(path.name)
        if path.name != "lock" or asked.count("lock") > 2:
            unlink(path, missing_ok)

    monkeypatch.setattr(lock.Path, "unlink", late)
    with RunLock(tmp_path / "lock"):
        pass
    assert asked.count("lock") == 3
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_incomplete_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock.os, "fsync", raises(OSError(28, "No space left on device")))
    with pytest.raises(Exception, match="no space left"), RunLock(tmp_path / "lock"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_file_systems_without_file_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(lock.fcntl, "flock", raises(OSError(37, "No locks available")))
    with RunLock(foreign(tmp_path / "lock", age=1000)):
        assert holder_of(tmp_path / "lock").process == this_process()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_lock_that_another_job_took_over_first_is_restored(tmp_path, monkeypatch, links):
    """The other job replaces the stale lock after it was read, without the guard."""
    path, rename = foreign(tmp_path / "lock", age=1000), os.rename
    if not links:
        monkeypatch.setattr(lock.os, "link", raises(OSError(1, "Operation not permitted")))

    def late(source, target):
        foreign(path, token="other")
        rename(source, target)

    monkeypatch.setattr(lock.os, "rename", late)
    refused(path, "job 77 on host elsewhere")
    assert holder_of(path).token == "other"
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_lock_is_written_again_by_its_holder(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    path = tmp_path / "lock"
    with RunLock(path):
        path.write_bytes(b"\0" * 1000)
        deadline = time.monotonic() + 5
        while holder_of(path) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert holder_of(path).process == this_process()
    assert "is written again" in caplog.text


@pytest.mark.parametrize(("change", "words"), [(foreign, "now belongs to process 1"), (Path.unlink, "was removed")])
def test_a_job_that_loses_its_lock_ends(tmp_path, monkeypatch, caplog, change, words):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    left = []
    monkeypatch.setattr(lock.os, "_exit", left.append)
    with RunLock(tmp_path / "lock") as held:
        change(tmp_path / "lock")
        deadline = time.monotonic() + 5
        while not left and time.monotonic() < deadline:
            time.sleep(0.02)
        held._released.set()
    assert set(left) == {1}
    assert words in caplog.text


def test_only_one_of_many_concurrent_starts_gets_the_lock(tmp_path):
    """Without a lock and with a stale one. The holder creates a file that no other holder may see."""
    code = f"""
import sys, time, random
from pathlib import Path
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.lock import RunLock
folder = Path({str(tmp_path)!r})
print("ready", flush=True); sys.stdin.readline()
for turn in range(20):
    try:
        with RunLock(folder / "lock"):
            (folder / "one").touch(exist_ok=False); time.sleep(0.002); (folder / "one").unlink()
            held = True
    except InputError:
        held = False
    print(int(held), flush=True)
"""
    here = this_process()
    dead = {"machine": here.machine, "pid": here.pid, "started": here.started - 1}
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, stderr=-1, text=True) for _ in range(6)
    ]
    for one in started:
        assert one.stdout.readline() == "ready\n"
    foreign(tmp_path / "lock", **dead)
    for one in started:
        one.stdin.write("\n")
        one.stdin.flush()
    ended = [one.communicate(timeout=60) for one in started]
    assert [one.returncode for one in started] == [0] * len(started), ended
    assert sum(out.count("1") for out, _ in ended) >= 20
    assert list(tmp_path.iterdir()) == []


def test_status_reads_a_foreign_lock_without_waiting(tmp_path):
    path = tmp_path / "lock"
    assert current_holder(path) is None
    assert current_holder(foreign(path)) is not None
    assert current_holder(foreign(path, age=-3600)) is not None
    assert current_holder(foreign(path, age=lock_file.STALE_SECONDS + 5)) is None
    assert read_lock(tmp_path / "lock" / "lock") is None
