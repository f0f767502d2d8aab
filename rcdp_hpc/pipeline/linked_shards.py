"""A run directory with the shards of another one: as a link, whose checksums are checked wherever they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rcdp_hpc.data.shards.index import load_index
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.files import os_errors_explained, write_atomic
from rcdp_hpc.runtime.rundir import RunDirectory


def link_shards(source: RunDirectory, place: RunDirectory, whose: str) -> dict[str, Any]:
    """Give a run directory the shards of another one; return the settings that prepared them.

    The link is relative, so that a folder with both can be moved. The record of the preparation is copied.

    Parameters
    ----------
    source, place : RunDirectory
        Where the shards are, and the run directory that gets the link.
    whose : str
        What `source` is, for messages.

    Raises
    ------
    InputError
        If `place` has shards of its own, or `source` has none.
    """
    with os_errors_explained(place.shards):
        place.path.mkdir(parents=True, exist_ok=True)
        # Of a run whose shards are a link, too, the new link leads to the shards themselves.
        target = os.path.relpath(source.shards.resolve(), place.path.resolve())
        if not place.shards.is_symlink() or os.readlink(place.shards) != target:
            _replace_link(place.shards, target, whose)
        state = place.state_file("prepare")
        if not state.exists():
            state.parent.mkdir(exist_ok=True)
            content = source.state_file("prepare").read_bytes()
            write_atomic(state, lambda file: file.write(content))
    settings: dict[str, Any] = load_index(source.shards)["settings"]
    return settings


def _replace_link(link: Path, target: str, whose: str) -> None:
    if link.exists() and not link.is_symlink():
        raise InputError(f"{link}: is not a link to the data of {whose}. Move it away.")
    link.unlink(missing_ok=True)
    link.symlink_to(target)
