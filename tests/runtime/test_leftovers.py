from __future__ import annotations

import json
import os
import re
import time

import pytest

from rcdp_hpc.pipeline.stages import held
from rcdp_hpc.runtime import leftovers, lock, owners
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import sealed
from rcdp_hpc.runtime.files import write_atomic, write_text
from rcdp_hpc.runtime.leftovers import remove_leftovers, temporary_files
from rcdp_hpc.runtime.lock_file import Holder
from rcdp_hpc.runtime.owners import Process, temporary_name, this_process, writer_of
from rcdp_hpc.runtime.rundir import RunDirectory


def left_by(folder, process, name="last.pt"):
    path = folder / f".{name}.{process.tag}.abc123_z.tmp"
    path.write_text("half")
    return path


def test_a_temporary_file_names_its_writer(tmp_path):
    seen = []
    write_atomic(tmp_path / "a", lambda file: seen.extend(tmp_path.iterdir()))
    assert [writer_of(path) for path in seen] == [this_process()]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_files_of_dead_processes_are_removed_and_those_of_others_kept(tmp_path, dead_process):
    left, written = left_by(tmp_path, dead_process), left_by(tmp_path, this_process())
    users = [tmp_path / name for name in (".notes.tmp", "data.tmp", ".last.pt.abcdefgh.tmp")]
    for path in users:
        path.write_text("the user's")
    assert remove_leftovers(temporary_files([tmp_path, tmp_path / "missing"])) == [left]
    assert sorted(tmp_path.iterdir()) == sorted([written, *users])


def test_a_reused_process_number_does_not_protect_a_file(tmp_path):
    here = this_process()
    left = left_by(tmp_path, Process(here.machine, here.pid, here.started - 1))
    assert remove_leftovers([left]) == [left]


def test_a_file_of_another_machine_is_kept_while_it_changes(tmp_path, monkeypatch):
    other = left_by(tmp_path, Process("0123456789ab", 1, 1))
    # The modification time of a file can be set, but not its change time.
    os.utime(other, (0, 0))
    assert remove_leftovers([other]) == []
    monkeypatch.setattr(leftovers, "ABANDONED_SECONDS", 0.05)
    time.sleep(0.1)
    assert remove_leftovers([other]) == [other]
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_a_replaced_lock_holder_are_removed_at_once(tmp_path):
    gone, other = Process("0123456789ab", 1, 1), Process("0123456789ab", 2, 1)
    left, stays = left_by(tmp_path, gone), left_by(tmp_path, other)
    assert remove_leftovers([left, stays], gone=gone.tag) == [left]


def test_a_start_keeps_the_files_of_a_running_prediction(tmp_path, dead_process, monkeypatch):
    monkeypatch.setattr(lock, "WATCH_SECONDS", 0.1)
    run = RunDirectory(tmp_path / "run")
    for folder in (run.path, run.report, run.train):
        folder.mkdir(exist_ok=True)
    mine = [left_by(folder, this_process(), "labels.csv") for folder in (run.path, run.report)]
    gone = [left_by(folder, dead_process) for folder in (run.path, run.train)]
    run.lock.write_text(json.dumps(sealed(Holder("t", "elsewhere", Process("0123456789ab", 7, 7)).content())))
    os.utime(run.lock, (0, 0))
    of_holder = left_by(run.train, Process("0123456789ab", 7, 7))
    with held(run, SingleProcess()):
        assert all(path.exists() for path in mine)
        assert not any(path.exists() for path in [*gone, of_holder])


def test_links_are_not_followed(tmp_path, dead_process):
    (tmp_path / "target").write_text("x")
    link = tmp_path / f".a.{dead_process.tag}.abc.tmp"
    link.symlink_to(tmp_path / "target")
    assert remove_leftovers([link]) == []


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "语" * 85, "\udcff" * 200, "a\nb"])
def test_long_and_odd_names_can_be_written(tmp_path, name):
    path = tmp_path / name
    write_text(path, "x")
    assert path.read_text() == "x"
    assert writer_of(tmp_path / temporary_name(name)) == this_process()


def test_a_process_is_identified_without_clocks(monkeypatch):
    here = this_process()
    assert here.life() == "alive"
    assert re.fullmatch(r"[0-9a-f]{12}", here.machine)
    assert here.started > 0
    # Another machine of the same name, or this one after a reboot.
    monkeypatch.setattr(owners, "_boot", lambda: "another")
    assert here.life() == "unknown"
    monkeypatch.undo()
    monkeypatch.setattr(owners, "_stat", lambda pid: ("", 0))
    assert here.life() == "unknown"
    assert Process(here.machine, 2**40, 1).life() == "gone"
