"""The control groups around this process: Slurm, containers and systemd set limits on them (cgroups(7))."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal


def groups_of_process(controller: str, root: Path = Path("/")) -> Iterator[tuple[Literal[1, 2], Path]]:
    """Yield the version and the folder of each control group that may limit this process, by /proc/self/cgroup.

    Its lines are number:controllers:path. Version 2 has the number 0, no controllers, and a mount of its own next to
    version 1 if there are both. A path may be one that the container does not show: its own group is then the root of
    what it sees. Folders that do not exist are among them.

    Parameters
    ----------
    controller : str
        Whose limit is asked for, such as ``"memory"`` or ``"cpu"``.
    root : Path
        Where proc and sys are.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    mounts = root / "sys/fs/cgroup"
    for line in [*lines, "0::/", f"1:{controller}:/"]:
        number, controllers, path = line.split(":", 2)
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):
            if number == "0":
                yield 2, mounts / group
                yield 2, mounts / "unified" / group
            elif controller in controllers.split(","):
                yield 1, mounts / controller / group
                if controllers != controller:
                    yield 1, mounts / controllers / group
