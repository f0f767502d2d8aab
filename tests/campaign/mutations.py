"""Damage of the bytes of a file of any format."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def flip(path: Path, draw: random.Random) -> str:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    if not data:
        return append(path, draw)
    place, bit = draw.randrange(len(data)), draw.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {place} flipped"


def overwrite(path: Path, draw: random.Random) -> str:
    """Overwrite a range with random bytes."""
    return _fill(path, draw, lambda length: draw.randbytes(length), "random bytes")


def zeros(path: Path, draw: random.Random) -> str:
    """Overwrite a range with zeros, like a lost page."""
    return _fill(path, draw, bytes, "zeros")


def _fill(path: Path, draw: random.Random, content: Callable[[int], bytes], what: str) -> str:
    data = bytearray(path.read_bytes())
    if not data:
        return append(path, draw)
    length = min(len(data), draw.choice((1, 4, 16, 256, 4096)))
    start = draw.randrange(len(data) - length + 1)
    data[start : start + length] = content(length)
    path.write_bytes(data)
    return f"bytes {start} to {start + length - 1} are {what}"


def cut(path: Path, draw: random.Random) -> str:
    """Truncate the file."""
    size = path.stat().st_size
    length = draw.choice((size - 1, size // 2, draw.randrange(size + 1))) if size else 0
    os.truncate(path, max(0, length))
    return f"truncated to {max(0, length)} of {size} bytes"


def append(path: Path, draw: random.Random) -> str:
    """Append bytes."""
    more = draw.choice((b"\n", b"\0", b"x", draw.randbytes(100), b"\n{}\n", bytes(512)))
    with path.open("ab") as file:
        file.write(more)
    return f"{more[:8]!r}... ({len(more)} bytes) appended"


def repeat(path: Path, draw: random.Random) -> str:
    """Repeat the whole content, like a repeated append."""
    path.write_bytes(path.read_bytes() * 2)
    return "content repeated"


def empty(path: Path, draw: random.Random) -> str:
    """Truncate the file to no bytes."""
    os.truncate(path, 0)
    return "emptied"


def remove(path: Path, draw: random.Random) -> str:
    """Remove the file."""
    path.unlink()
    return "removed"


def folder_instead(path: Path, draw: random.Random) -> str:
    """Replace the file with a folder."""
    path.unlink()
    path.mkdir()
    return "a folder in its place"


def link_to_nothing(path: Path, draw: random.Random) -> str:
    """Replace the file with a dangling link."""
    path.unlink()
    path.symlink_to(path.parent / "nothing")
    return "a link to nothing in its place"


def link_to_itself(path: Path, draw: random.Random) -> str:
    """Replace the file with a link to itself."""
    path.unlink()
    path.symlink_to(path.name)
    return "a link to itself in its place"


def pipe_instead(path: Path, draw: random.Random) -> str:
    """Replace the file with a named pipe without a writer."""
    path.unlink()
    os.mkfifo(path)
    return "a named pipe in its place"


# (mutation, weight); frequent kinds of damage have larger weights.
MUTATIONS: Mapping[str, tuple[Callable[[Path, random.Random], str], int]] = {
    "flip": (flip, 8),
    "overwrite": (overwrite, 5),
    "zeros": (zeros, 4),
    "cut": (cut, 4),
    "append": (append, 2),
    "repeat": (repeat, 1),
    "empty": (empty, 2),
    "remove": (remove, 2),
    "folder": (folder_instead, 1),
    "link": (link_to_nothing, 1),
    "loop": (link_to_itself, 1),
    "pipe": (pipe_instead, 1),
}


def mutate(path: Path, draw: random.Random) -> str:
    """Damage a file in a random way; return a description."""
    names = list(MUTATIONS)
    (name,) = draw.choices(names, [MUTATIONS[name][1] for name in names])
    return MUTATIONS[name][0](path, draw)


def swap(path: Path, others: Sequence[Path], draw: random.Random) -> str:
    """Replace the content with that of another file."""
    other = draw.choice(others)
    shutil.copyfile(other, path)
    return f"replaced by {other.name}"
