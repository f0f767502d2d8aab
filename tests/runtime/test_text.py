"""Names and messages that fit a terminal."""

from __future__ import annotations

import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcdp_hpc.runtime.logs import log_to_terminal
from rcdp_hpc.runtime.text import display_width, pad, plain_name, shorten, wrap_items, wrap_message


@given(st.text(max_size=60), st.integers(4, 30))
def test_a_name_is_padded_to_a_number_of_columns(name, columns):
    plain = plain_name(name)
    assert plain.splitlines() in ([plain], [])
    assert display_width(pad(plain, columns)) == columns
    assert display_width(shorten(plain, columns)) <= columns


@pytest.mark.parametrize(
    ("name", "plain"), [("a\nb", "a\\nb"), ("", "''"), (" ", "' '"), ("\udc80", "\\udc80"), ("猫 $x$", "猫 $x$")]
)
def test_names_that_would_break_a_line(name, plain):
    assert plain_name(name) == plain


def test_both_ends_of_a_long_name_are_kept():
    assert shorten("abcdefghijklmnopqrstuvwxyz", 11) == "abcd...wxyz"
    assert shorten("猫" * 10, 10) == "猫猫...猫"  # two columns each
    assert shorten("short", 5) == "short"


def test_items_are_wrapped_into_lines():
    assert wrap_items("of: ", ["a = 1", "b = 2", "c = 3"], 16) == ["of: a = 1,", "  b = 2, c = 3"]
    assert wrap_items("of: ", []) == ["of:"]


def test_a_message_is_wrapped_between_words_only():
    path = "/scratch/" + "x" * 100
    lines = wrap_message(f"{'word ' * 30}{path} end\nshort", 40).splitlines()
    assert lines[-1] == "short"
    assert f"  {path}" in lines
    assert all(len(line) <= 40 for line in lines if path not in line)


def test_the_log_is_wrapped_for_a_terminal_but_not_in_a_file(capsys, monkeypatch):
    log = logging.getLogger("rcdp_hpc.runtime.progress")
    propagate = logging.getLogger("rcdp_hpc").propagate
    log_to_terminal(is_root=True)
    try:
        monkeypatch.delenv("COLUMNS", raising=False)
        log.info("word " * 40)
        assert len(capsys.readouterr().out.splitlines()) == 1
        monkeypatch.setenv("COLUMNS", "60")
        log.info("word " * 40)
        assert len(capsys.readouterr().out.splitlines()) == 1
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        log.info("word " * 40)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) > 3
        assert max(map(len, lines)) <= 60
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
        monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
        log_to_terminal(is_root=True)
        log.info("word " * 40)
        assert len(capsys.readouterr().out.splitlines()) == 1
    finally:
        logger = logging.getLogger("rcdp_hpc")
        logger.propagate = propagate
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
