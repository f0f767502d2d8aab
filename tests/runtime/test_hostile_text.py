"""Names are escaped wherever they reach a terminal."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rcdp_hpc
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.runtime.logs import MOST_CHARACTERS, log_to_terminal, logging_to_file
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.streams import BarStream, tolerant_streams
from rcdp_hpc.runtime.text import join_lines, multiline_error, plain_line, plain_lines, shell_word

FALSE_LINE = "a\nrcdp: error: all data are lost"
HOSTILE = [
    "\x1b[2J", "\x1b]8;;http://x\x07y\x1b]8;;\x07", "\x1b]52;c;QUJD\x07", "a\rb", "\x9b31m", "\u202eabc", "\u2066a",
    "a\u200bb", "a\u2060b", "\ufeffa", "a\u2028b", "\x85", "\udc80", "\x00", "a\u00adb", "\u3164", "\U000e0041",
    FALSE_LINE,
]  # fmt: skip


def raw(text: str) -> set[str]:
    """Return the characters of a text that control a terminal or are invisible."""
    unsafe = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {one for one in text if unicodedata.category(one) in unsafe and one not in "\n\t"} | ({"\u3164"} & set(text))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_escaped(name):
    assert raw(plain_line(name)) == set()
    assert "\n" not in plain_line(name)
    assert plain_line(name) != name
    assert raw(plain_lines(name)) == set()
    assert join_lines(["x", name, "y"]).count("\n") == 2


@given(st.text())
def test_any_text_is_safe_and_plain_text_is_unchanged(text):
    shown = plain_line(text)
    assert raw(shown) - {"\u200c", "\u200d"} == set()
    assert plain_line(shown) == shown


@pytest.mark.parametrize(
    "name", ["Größe", "猫 $x$", "می\u200cخواهم", "क्\u200dष", "👨\u200d👩\u200d👧", "❤️", "a\u00a0b"]
)
def test_names_of_any_script_are_unchanged(name):
    assert plain_line(name) == name


@pytest.mark.parametrize("name", ["a b", "$HOME", "it's", "\x1b[2J", FALSE_LINE, "a\\b\x07'", "ä\x80", "\udcff"])
def test_a_shell_reads_the_same_word(name):
    word = shell_word(name)
    assert raw(word) == set()
    assert "\n" not in word
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, timeout=20)
    assert done.stdout.decode("utf-8", "surrogateescape") == name


@pytest.fixture
def package_log():
    logger = logging.getLogger("rcdp_hpc")
    handlers, propagate = list(logger.handlers), logger.propagate
    log_to_terminal(is_root=True)
    yield logger
    logger.handlers[:], logger.propagate = handlers, propagate


@pytest.mark.parametrize("name", HOSTILE)
def test_messages_are_escaped_and_the_log_file_is_exact(name, package_log, capsys, tmp_path):
    with logging_to_file(tmp_path / "log.jsonl"):
        package_log.error("class %s of %d", name, 3)
        package_log.error("%s", InputError(f"{name}: no such file."))
        package_log.info("%(name)s", {"name": Path(f"x{name}") if "\0" not in name else name})
    shown = "".join(capsys.readouterr())
    assert raw(shown) == set()
    assert len(shown.splitlines()) == 3
    assert not any(line.startswith("rcdp: error: all") for line in shown.splitlines())
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert first["message"] == f"class {name} of 3"


def test_intended_lines_are_kept_and_do_not_look_like_messages(package_log, capsys):
    package_log.error("%s", multiline_error(StageFailedError, ["Slurm refused:", f"  {FALSE_LINE}", "rcdp: error: x"]))
    lines = capsys.readouterr().err.splitlines()
    assert [line[:8] for line in lines] == ["rcdp: er", "  a\\nrcd", "  rcdp: "]


def test_a_message_of_millions_of_characters_is_shortened(package_log, capsys):
    package_log.error("no column %s", "x" * 10**6)
    assert len(capsys.readouterr().err) < MOST_CHARACTERS + 200


def test_streams_escape_all_text_except_progress_bars(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with tolerant_streams():
        print("a\x1b[2Jb\tc")
        bar = BarStream()
        assert bar == sys.stderr
        bar.write("\r50 %")
        print("\u202e", file=sys.stderr)
    assert out.getvalue() == "a\\x1b[2Jb\tc\n"
    assert err.getvalue() == "\r50 %\\u202e\n"


def test_progress_lines(package_log, capsys):
    with Progress(FALSE_LINE, 3, interval=0) as bar:
        bar.advance(1, note=f"class {FALSE_LINE}")
    shown = "".join(capsys.readouterr())
    assert "\\nrcdp: error" in shown
    assert not any(line.startswith("rcdp:") for line in shown.splitlines())


def test_templates_of_messages_are_constant():
    """The line breaks of a template are kept, so it must not contain names."""
    found = []
    for file in Path(rcdp_hpc.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            logs = node.func.attr in ("debug", "info", "warning", "error", "critical", "exception")
            if (
                logs
                and ast.unparse(node.func.value) in ("log", "logger")
                and not isinstance(node.args[0], ast.Constant)
            ):
                found.append(f"{file.name}:{node.lineno}")
    assert found == []


def test_a_log_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "log.jsonl")
    with pytest.raises(InputError, match="a regular file is needed"), logging_to_file(tmp_path / "log.jsonl"):
        pass
