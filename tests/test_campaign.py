"""The campaign of injected faults: verdicts, child processes, table, and repeated trials."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from campaign import children, directed, mutations, report
from campaign.__main__ import carry_out, parse, planned
from campaign.children import Done
from campaign.judge import Verdict, judge
from campaign.kinds import KINDS
from campaign.results import timeless
from campaign.runs import Place
from campaign.trial import Kind, Outcome, trial_of

import rcdp_hpc.cli

MESSAGE = "rcdp: error: RUN/train/model.pt: damaged. Train again with --restart.\n"


def done(code: int = 0, text: str = "", timed_out: bool = False, peak: int = 0) -> Done:
    return Done(code, timed_out, text, 1.0, peak)


@pytest.mark.parametrize(
    ("ended", "differing", "verdict"),
    [
        (done(), [], Verdict.SURVIVED),
        (done(3, MESSAGE), [], Verdict.REPORTED),
        (done(0, "rcdp: warning: model.pt is damaged, the one before it is used\n"), ["report"], Verdict.REPORTED),
        (done(0, "rcdp: warning: something else\n"), ["report"], Verdict.SILENT),
        (done(0, "accuracy 12 %\n"), ["report"], Verdict.SILENT),
        (done(3, "rcdp: error: something is damaged\n"), [], Verdict.UNCLEAR),
        (done(3, MESSAGE + MESSAGE), [], Verdict.UNCLEAR),
        (done(3, "model.pt"), [], Verdict.UNCLEAR),
        (done(1, MESSAGE), [], Verdict.UNCLEAR),
        (done(peak=5000), [], Verdict.UNCLEAR),
        (done(3, f"Traceback (most recent call last):\nKeyError: 'x'\n{MESSAGE}"), [], Verdict.TRACEBACK),
        (done(-signal.SIGSEGV), [], Verdict.TRACEBACK),
        (done(timed_out=True), [], Verdict.HANG),
    ],
)
def test_each_verdict(ended, differing, verdict):
    found = judge(ended, names=["model.pt"], codes=(2, 3), differences=differing, base_peak=300)
    assert found.verdict == verdict, found.why


def test_success_is_silent_if_the_command_must_refuse():
    assert judge(done(), names=["x"], codes=(3,), must_refuse="it finds nothing").verdict == Verdict.SILENT


def _raises(arguments):
    raise KeyError("host")


def _hangs(arguments):
    time.sleep(60)


def _is_killed(arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def _prints(text, code):
    def main(arguments):
        print(text)
        return code

    return main


@pytest.mark.parametrize(
    ("main", "verdict"),
    [
        (_prints("fine", 0), Verdict.SURVIVED),
        (_prints(MESSAGE, 3), Verdict.REPORTED),
        (_raises, Verdict.TRACEBACK),
        (_is_killed, Verdict.TRACEBACK),
        (_hangs, Verdict.HANG),
    ],
)
def test_verdicts_on_commands_in_child_processes(tmp_path, monkeypatch, main, verdict):
    monkeypatch.setattr(rcdp_hpc.cli, "main", main)
    ended = children.rcdp(["status"], tmp_path, limit=2 if main is _hangs else 60)
    assert judge(ended, names=["model.pt"], codes=(2, 3)).verdict == verdict, ended


def test_a_signal_reaches_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(rcdp_hpc.cli, "main", _hangs)
    ended = children.rcdp(["train"], tmp_path, limit=30, sent=children.Signal(signal.SIGKILL, 0.1))
    assert (ended.code, ended.timed_out) == (-signal.SIGKILL, False)


def _trial_that_is(verdict):
    def run(trial):
        if verdict is Verdict.BROKEN:
            raise RuntimeError("the trial itself failed")
        return Outcome(trial.kind, trial.number, "a fault", "status RUN", verdict, "why")

    return run


@pytest.mark.parametrize("verdict", list(Verdict))
def test_some_verdicts_fail_the_campaign(tmp_path, monkeypatch, capfd, verdict):
    monkeypatch.setitem(KINDS, "fake", Kind("fake", _trial_that_is(verdict), 1.0))
    (tmp_path / "outcomes").mkdir()
    outcomes = carry_out([trial_of("fake", number, tmp_path, 1) for number in range(3)], 2, None)
    assert [outcome.verdict for outcome in outcomes] == [verdict] * 3
    bad = (Verdict.SILENT, Verdict.TRACEBACK, Verdict.HANG, Verdict.BROKEN)
    assert report.failed(outcomes) == (verdict in bad)
    listed = report.faults(outcomes, 1, tmp_path)
    assert ("--repeat fake-2" in listed) == (verdict in (*bad, Verdict.UNCLEAR))
    last = report.table(outcomes).splitlines()[-1].split()
    assert last[:2] == ["all", "3"]
    assert last[2:] == ["3" if verdict == column else "0" for column in report.COLUMNS]


def test_kinds_have_their_shares_at_any_time():
    plan = list(planned(["damage", "hostile"], 100, ""))
    for end in (20, 100):
        counts = [sum(kind == name for kind, _ in plan[:end]) for name in ("damage", "hostile")]
        shares = [KINDS[name].share for name in ("damage", "hostile")]
        assert abs(counts[0] - end * shares[0] / sum(shares)) < 2
    assert list(planned(["damage"], 100, "hostile-7")) == [("hostile", 7)]


def test_unknown_kinds_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["--kinds", "damages"])
    assert "damages" in capsys.readouterr().err


def _damaged(path: Path, number: int) -> tuple[str, bytes | None]:
    path.write_bytes(bytes(range(256)) * 4)
    what = mutations.mutate(path, trial_of("damage", number, path.parent, 5).draw)
    found = path.read_bytes() if path.is_file() else None
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    return what, found


def test_damage_is_the_same_for_the_same_number(tmp_path):
    drawn = [_damaged(tmp_path / "file", number) for number in range(60)]
    assert drawn == [_damaged(tmp_path / "file", number) for number in range(60)]
    assert len({what for what, _ in drawn}) > 20


def test_directed_damage_stays_valid(tmp_path):
    path = tmp_path / "state.json"
    changed = set()
    for number in range(40):
        path.write_text('{"status": "done", "seconds": 1.5, "result": {"rows": [1, 2]}}')
        before = path.read_text()
        directed.change_json(path, random.Random(number))
        changed.add(path.read_text() != before)
    assert changed == {True}


def test_times_are_not_results():
    before = {"epoch": 1, "seconds": 1.0, "result": [{"wait_seconds": [2], "loss": 0.5}]}
    after = {"epoch": 1, "seconds": 7.0, "result": [{"wait_seconds": [9], "loss": 0.5}]}
    assert timeless(before) == timeless(after) == {"epoch": 1, "result": [{"loss": 0.5}]}
    after["result"][0]["loss"] = 0.5000001
    assert timeless(before) != timeless(after)


def test_words_of_a_command_get_the_paths_of_a_trial(tmp_path):
    place = Place(tmp_path / "RUN-1", tmp_path)
    assert place.words(["status", "RUN"]) == ["status", str(tmp_path / "RUN-1" / "run")]
