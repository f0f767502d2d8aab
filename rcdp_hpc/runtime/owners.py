"""The processes that own locks and temporary files, and whether they still run.

A process is identified by the boot ID of the machine, its process namespace, its number, and its start time in clock
ticks since the boot. This identification survives reused process numbers, reboots, machines of the same name and clock
changes. Whether a process of another machine runs is unknown.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Life = Literal["alive", "gone", "unknown"]

# Part of a name that a temporary name includes: file systems limit the whole name to 255 bytes.
NAME_BYTES = 120
_TAG = r"(?P<tag>[0-9a-f]{12}-(?P<pid>[0-9]{1,10})-(?P<started>[0-9]{1,20}))"
_TEMPORARY = re.compile(rf"\..*\.{_TAG}\.[0-9a-z_]+\.tmp", re.DOTALL)
_FOLDER = re.compile(rf"rcdp-[0-9a-f]{{16}}-{_TAG}-[0-9a-z_]+")


@dataclass(frozen=True)
class Process:
    """The identity of a process.

    Attributes
    ----------
    machine : str
        Digest of the boot ID and the process namespace, or of the host name on systems without ``/proc``.
    pid : int
    started : int
        Start of the process in clock ticks since the boot; 0 if unknown.
    """

    machine: str
    pid: int
    started: int = 0

    @property
    def tag(self) -> str:
        """The process as a part of file names."""
        return f"{self.machine}-{self.pid}-{self.started}"

    def life(self) -> Life:
        """Return whether the process still runs; "unknown" for processes of other machines and containers."""
        if self.machine != _machine():
            return "unknown"
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return "gone"
        except PermissionError:
            pass  # exists, but belongs to another user
        state, started = _stat(self.pid)
        if state in ("Z", "X"):
            return "gone"
        if not self.started or not started:
            return "unknown"
        return "alive" if started == self.started else "gone"


def this_process() -> Process:
    """Return the identity of this process."""
    return Process(_machine(), os.getpid(), _stat(os.getpid())[1])


def temporary_name(name: str, end: str = "") -> str:
    """Return a hidden name for the file that will become `name`, with the identity of this process.

    Parameters
    ----------
    name : str
        Shortened if necessary.
    end : str
        Lower-case letters and digits that make the name unique. Default: random.
    """
    return f"{temporary_prefix(name)}{end or secrets.token_hex(4)}.tmp"


def temporary_prefix(name: str) -> str:
    """Return the prefix of temporary names of `name`; a random part and ".tmp" follow."""
    while len(os.fsencode(name)) > NAME_BYTES:
        name = name[:-1]
    return f".{name}.{this_process().tag}."


def folder_prefix(content: str) -> str:
    """Return the prefix of this process's temporary folders for `content`; a random part follows."""
    return f"{content_prefix(content)}{this_process().tag}-"


def content_prefix(content: str) -> str:
    """Return the prefix of all processes' temporary folders for `content`."""
    return f"rcdp-{hashlib.sha256(os.fsencode(content)).hexdigest()[:16]}-"


def writer_of(path: Path) -> Process | None:
    """Return the process that created a temporary file or folder; None for names of other origin."""
    match = _TEMPORARY.fullmatch(path.name) or _FOLDER.fullmatch(path.name)
    if match is None:
        return None
    return Process(match["tag"].partition("-")[0], int(match["pid"]), int(match["started"]))


def _machine() -> str:
    boot, namespace = _boot(), _process_namespace()
    identity = f"{boot} {namespace}" if boot and namespace else f"host {socket.gethostname()}"
    return hashlib.sha256(os.fsencode(identity)).hexdigest()[:12]


def _boot() -> str:
    """Return the random ID that the kernel generates at each boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _process_namespace() -> str:
    """Return the process namespace, which may differ between containers on one host."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, int]:
    """Return state and start time (clock ticks since the boot) of a process; "" and 0 if they cannot be read."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0
