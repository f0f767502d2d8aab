"""A stage continues when its output cannot be written: closed pipes, full disks, terminals limited to ASCII."""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import os
import subprocess
import sys

import pytest
from launch import environment, rcdp

from rcdp_hpc.cli import main
from rcdp_hpc.runtime.logs import log_to_terminal
from rcdp_hpc.runtime.streams import TolerantStream, tolerant_streams


class Failing(io.StringIO):
    """A stream whose writes fail with an error number, after the first `whole` of them."""

    def __init__(self, number: int, whole: int = 0) -> None:
        super().__init__()
        self.number, self.whole, self.tried = number, whole, 0

    def write(self, text: str) -> int:
        self.tried += 1
        if self.tried > self.whole:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.EBADF, errno.ESTALE])
def test_after_a_failure_the_rest_is_dropped_and_nothing_is_raised(number):
    stream = Failing(number, whole=1)
    tolerant = TolerantStream(stream, "stdout")
    assert [tolerant.write(text) for text in ("one", "two", "three")] == [3, 3, 5]
    tolerant.flush()
    assert stream.getvalue() == "one"
    assert stream.tried == 2
    assert tolerant.failure.errno == number


def test_writing_continues_when_a_disk_has_space_again():
    stream = Failing(errno.ENOSPC)
    tolerant = TolerantStream(stream, "stdout")
    tolerant.write("lost")
    stream.whole = 10
    tolerant.write("kept")
    assert stream.getvalue() == "kept"
    assert tolerant.failure.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("ascii", r"caf\xe9 \u6771"), ("latin-1", r"café \u6771"), ("utf-8", "café 東")],
)
def test_characters_outside_the_encoding_are_escaped(encoding, written):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    TolerantStream(stream, "stdout").write("café 東")
    stream.flush()
    assert raw.getvalue().decode(encoding) == written


def test_a_file_name_that_is_not_utf8_is_escaped():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    TolerantStream(stream, "stdout").write(os.fsdecode(b"a\xff.npz"))
    stream.flush()
    assert raw.getvalue() == rb"a\udcff.npz"


def test_a_closed_stream_and_a_missing_stream():
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        tolerant = TolerantStream(stream, "stdout")
        assert tolerant.write("text") == 4
        tolerant.flush()
        assert not tolerant.isatty()


def test_a_closed_terminal_is_logged_once(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Failing(errno.EPIPE))
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("rcdp_hpc")
    with tolerant_streams():
        log_to_terminal(is_root=True)
        logger.addHandler(handler)
        try:
            for number in range(3):
                logger.info("message %d", number)
        finally:
            logger.removeHandler(handler)
    assert [text for text in records if text.startswith("message")] == ["message 0", "message 1", "message 2"]
    assert sum("stdout cannot be written" in text for text in records) == 1


def shell(line: str, folder: object, **extra: str) -> subprocess.CompletedProcess[str]:
    command = f'set -o pipefail; rcdp() {{ {" ".join(rcdp())} "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(extra), capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("command", ["config digits", "--help", "completion bash"])
def test_a_printing_command_ends_quietly_with_head(command, tmp_path):
    done = shell(f"rcdp {command} | head -n 1", tmp_path, PYTHONUNBUFFERED="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def test_a_configuration_truncated_by_a_full_disk_is_an_error(tmp_path):
    done = shell("rcdp config digits > /dev/full", tmp_path)
    assert done.returncode == 1
    assert "the output is incomplete" in done.stderr


def test_without_standard_streams_a_command_works(tmp_path):
    done = shell("rcdp config <&- >&- 2>&-; echo $?; rcdp config >&-; echo $?; rcdp config <&-", tmp_path)
    assert done.stdout.splitlines()[:2] == ["0", "0"]
    assert "[training]" in done.stdout


@pytest.mark.parametrize(
    ("command", "end"), [("run", "| true"), ("prepare", ">&- 2>&-"), ("prepare", ">/dev/full 2>/dev/full")]
)
def test_a_stage_succeeds_for_any_failure_of_its_output(command, end, tmp_path):
    settings = [
        "search.generations=0", "training.epochs=2", "reservoir.nodes=20", "reservoir.kernel=dense-fp32",
        "data.shards=2", "readout.kind=ridge",
    ]  # fmt: skip
    flags = " ".join(f"--set {setting}" for setting in settings)
    done = shell(f"rcdp {command} digits --out run {flags} {end}", tmp_path, PYTHONUNBUFFERED="1")
    assert done.returncode == 0, done.stderr
    stages = ("prepare", "train", "evaluate") if command == "run" else ("prepare",)
    for stage in stages:
        assert json.loads((tmp_path / f"run/state/{stage}.json").read_text())["status"] == "done"
    messages = [json.loads(line)["message"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert any(message.startswith("test accuracy" if command == "run" else "prepared") for message in messages)


def test_class_names_in_an_ascii_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("t.csv", "w", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["a", "b", "label"])
        table.writerows([row / 30, row % 7, "Łódź" if row < 30 else "café"] for row in range(60))
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", errors="strict"))
    settings = ["data.source=csv", "data.path=t.csv", "data.shards=1"]
    assert (
        main(
            [
                "prepare",
                "--out",
                "run",
                "digits",
                "--set",
                "data.class_keep_fractions=[]",
                *(f"--set={one}" for one in settings),
            ]
        )
        == 0
    )
    text = raw.getvalue().decode("ascii")
    assert r"\u0141\xf3d\u017a" in text
    assert r"caf\xe9" in text
