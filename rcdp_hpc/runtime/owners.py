"""The processes that locks and temporary files belong to, and whether they still run.

A process is known by the machine's boot, its process namespace, its number and its start in clock ticks since the
boot: a number that was given to another process, a machine that was started again, two machines of the same name and
a clock that was set do not deceive. Of a process of another machine nothing is known here.
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

# With a temporary name around it, a name must stay within the 255 bytes of file systems.
NAME_BYTES = 120
_TAG = r"(?P<tag>[0-9a-f]{12}-(?P<pid>[0-9]{1,10})-(?P<started>[0-9]{1,20}))"
_TEMPORARY = re.compile(rf"\..*\.{_TAG}\.[0-9a-z_]+\.tmp", re.DOTALL)
_FOLDER = re.compile(rf"rcdp-[0-9a-f]{{16}}-{_TAG}-[0-9a-z_]+")


@dataclass(frozen=True)
class Process:
    """A process, as it is known on its machine.

    Attributes
    ----------
    machine : str
        Digest of the boot and the process namespace; of the host's name on systems that have no ``/proc``.
    pid : int
    started : int
        Start of the process in clock ticks since the boot; 0 if it is unknown.
    """

    machine: str
    pid: int
    started: int = 0

    @property
    def tag(self) -> str:
        """The process as part of a file's name."""
        return f"{self.machine}-{self.pid}-{self.started}"

    def life(self) -> Life:
        """Return whether the process still runs, "unknown" for processes of other machines and containers."""
        if self.machine != _machine():
            return "unknown"
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return "gone"
        except PermissionError:
            pass  # somebody else's, but a process
        state, started = _stat(self.pid)
        if state in ("Z", "X"):
            return "gone"
        if not self.started or not started:
            return "unknown"
        return "alive" if started == self.started else "gone"


def this_process() -> Process:
    """Return the process that asks."""
    return Process(_machine(), os.getpid(), _stat(os.getpid())[1])


def temporary_name(name: str, end: str = "") -> str:
    """Return a hidden name for the file that will become `name`, which says who writes it.

    Parameters
    ----------
    name : str
        Cut if it is long.
    end : str
        Small letters and digits that make it unique; default: random ones.
    """
    return f"{temporary_prefix(name)}{end or secrets.token_hex(4)}.tmp"


def temporary_prefix(name: str) -> str:
    """Return what temporary names of `name` begin with; a random part and ".tmp" follow."""
    while len(os.fsencode(name)) > NAME_BYTES:
        name = name[:-1]
    return f".{name}.{this_process().tag}."


def folder_prefix(content: str) -> str:
    """Return what names of this process's temporary folders for `content` begin with; a random part follows."""
    return f"{content_prefix(content)}{this_process().tag}-"


def content_prefix(content: str) -> str:
    """Return what names of all temporary folders for `content` begin with, whoever made them."""
    return f"rcdp-{hashlib.sha256(os.fsencode(content)).hexdigest()[:16]}-"


def writer_of(path: Path) -> Process | None:
    """Return who made a temporary file or folder; None if its name is not one of this package's."""
    found = _TEMPORARY.fullmatch(path.name) or _FOLDER.fullmatch(path.name)
    if found is None:
        return None
    return Process(found["tag"].partition("-")[0], int(found["pid"]), int(found["started"]))


def _machine() -> str:
    boot, namespace = _boot(), _process_namespace()
    known = f"{boot} {namespace}" if boot and namespace else f"host {socket.gethostname()}"
    return hashlib.sha256(os.fsencode(known)).hexdigest()[:12]


def _boot() -> str:
    """Return the number that this machine's kernel drew when it started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _process_namespace() -> str:
    """Return the name of this machine's process numbering: containers on one host may each have their own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, int]:
    """Return a process's state and its start in clock ticks since the boot; "" and 0 if they cannot be read."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0
