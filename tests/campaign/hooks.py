"""Audit hooks of child processes, which send signals at a chosen write or count writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

Match = Callable[[str, tuple[Any, ...]], bool]
WRITES = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate", "os.utime", "shutil.rmtree")


def moves_to(end: str) -> Match:
    """Return a function that matches a move of a file to a path with this end."""
    return lambda event, arguments: event == "os.rename" and str(arguments[1]).endswith(end)


def writes_in(folder: str) -> Match:
    """Return a function that matches every change of files below a folder: opening for writing, moving, removing."""

    def match(event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            return bool(changes) and _text(arguments[0]).startswith(folder)
        return event in WRITES and any(_text(one).startswith(folder) for one in arguments)

    return match


def _text(value: Any) -> str:
    return value if isinstance(value, str) else os.fsdecode(value) if isinstance(value, bytes | os.PathLike) else ""


def send_at(number: int, count: int, match: Match) -> Callable[[], None]:
    """Return a function that makes a process send itself a signal before its `count`-th matching event, from 1."""
    return lambda: _on_nth(count, match, lambda: os.kill(os.getpid(), number))


def count_into(path: str, match: Match) -> Callable[[], None]:
    """Return a function that makes a process append a byte to a file at each matching event, to count the events."""

    def install() -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if match(event, arguments):
                os.write(handle, b"x")

        sys.addaudithook(hook)

    return install


def _on_nth(count: int, match: Match, act: Callable[[], None]) -> None:
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open" or event in WRITES:
            seen += match(event, arguments)
            if seen == count:
                seen += 1
                act()

    sys.addaudithook(hook)
