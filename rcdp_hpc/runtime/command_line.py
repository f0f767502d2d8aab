"""The command line of this process, for the records of the stages that it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_WORDS: ContextVar[tuple[str, ...] | None] = ContextVar("command line of rcdp", default=None)


@contextmanager
def running(words: Sequence[str]) -> Iterator[None]:
    """Remember the words of a command within the block."""
    token = _WORDS.set(tuple(words))
    try:
        yield
    finally:
        _WORDS.reset(token)


def current_command() -> list[str] | None:
    """Return the words of the command that runs, ``["rcdp", "train", ...]``; None if Python called the package."""
    words = _WORDS.get()
    return None if words is None else list(words)
