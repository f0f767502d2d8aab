from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime import lock
from rcdp_hpc.runtime.lock import RunLock, read_lock


def test_a_held_directory_is_refused_and_its_holder_named(tmp_path):
    with RunLock(tmp_path / "lock"), pytest.raises(InputError) as error, RunLock(tmp_path / "lock"):
        pass
    assert f"process {os.getpid()}" in str(error.value)
    assert socket.gethostname() in str(error.value)
    assert "--out" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over_and_said_once(tmp_path, caplog):
    code = (
        f"import time; from pathlib import Path; from rcdp_hpc.runtime.lock import RunLock\n"
        f"with RunLock(Path({str(tmp_path / 'lock')!r})): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.wait()
    with caplog.at_level("WARNING", logger="rcdp_hpc"), RunLock(tmp_path / "lock"):
        assert read_lock(tmp_path / "lock")["pid"] == os.getpid()
    assert caplog.text.count(f"process {holder.pid}") == 1


def foreign(path, **changes):
    content = {"token": "t", "host": "elsewhere", "namespace": "", "pid": 1, "job": "77", "restarts": 0, **changes}
    path.write_text(json.dumps(content))


def test_a_lock_from_another_host_is_respected_until_its_heartbeat_is_old(tmp_path):
    path = tmp_path / "lock"
    foreign(path)
    with pytest.raises(InputError, match="job 77 on host elsewhere"), RunLock(path):
        pass
    long_ago = time.time() - lock.STALE_SECONDS - 5
    os.utime(path, (long_ago, long_ago))
    with RunLock(path):
        assert read_lock(path)["pid"] == os.getpid()


def test_the_same_job_requeued_takes_over_at_once(tmp_path, monkeypatch):
    foreign(tmp_path / "lock")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with RunLock(tmp_path / "lock"):
        pass


def test_the_heartbeat_is_kept_up(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    path = tmp_path / "lock"
    with RunLock(path):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 5
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert path.stat().st_mtime > 0


def test_a_lock_that_is_no_json_is_respected_while_fresh(tmp_path):
    (tmp_path / "lock").write_text("{")
    with pytest.raises(InputError, match="in use"), RunLock(tmp_path / "lock"):
        pass
