"""Files that can be read more than once, and those that cannot: pipes, sockets, devices, files of the kernel."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rcdp_hpc.errors import InputError

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Their files have no size, and some never end.
_OF_THE_KERNEL = ("/proc/", "/sys/")
ADVICE = "a regular file is needed, because files are read more than once and by several ranks: save the content to one"


def special_kind(path: str | Path) -> str:
    """Return what a path is that is neither a regular file nor a folder, as in "a pipe"; empty otherwise.

    The path is not opened: opening a pipe may wait for ever.
    """
    try:
        mode = os.stat(path).st_mode
        where = os.path.realpath(path)
    except (OSError, ValueError):
        return ""  # whoever opens it explains what is wrong
    kind = next((meaning for matches, meaning in _KINDS if matches(mode)), "")
    return kind or ("a file of the kernel" if where.startswith(_OF_THE_KERNEL) and stat.S_ISREG(mode) else "")


def refuse_undecodable(path: str | Path) -> None:
    """Raise an `InputError` if the name of a path has bytes that are not UTF-8, which configurations and Arrow need."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{path}: the name has bytes that are not UTF-8. Rename the file or folder, or name a link to it."
        ) from None


def refuse_special_in(path: str | Path, prefix: str = "") -> None:
    """Raise as `refuse_special` for a path and, if it is a folder, for what is in it and not hidden."""
    refuse_special(path, prefix)
    try:
        found = sorted(os.scandir(path), key=lambda entry: entry.name) if os.path.isdir(path) else []
    except OSError:
        return
    for entry in found:
        # Most entries are plain files and folders, which costs no look at them.
        if not entry.name.startswith(".") and (entry.is_symlink() or not (entry.is_file() or entry.is_dir())):
            refuse_special(entry.path, prefix)


def refuse_special(path: str | Path, prefix: str = "") -> None:
    """Raise an `InputError` if a path is a pipe, socket, device or file of the kernel.

    Parameters
    ----------
    path : str or Path
    prefix : str
        What the path is for, in front of it: ``--site``.
    """
    kind = special_kind(path)
    if kind:
        raise InputError(f"{prefix} {path}: {kind}; {ADVICE}.".lstrip())
