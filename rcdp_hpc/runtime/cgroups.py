"""The control groups of this process, on which Slurm, containers and systemd set limits (see cgroups(7))."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal


def groups_of_process(controller: str, root: Path = Path("/")) -> Iterator[tuple[Literal[1, 2], Path]]:
    """Yield version and folder of each control group that may limit this process. The folders need not exist.

    Lines of /proc/self/cgroup have the form number:controllers:path. Version 2 has the number 0 and no controllers; if
    version 1 is used as well, version 2 has a separate mount. Within a container a path may be invisible: the group of
    the container is then the root of the visible tree.

    Parameters
    ----------
    controller : str
        Type of limit, such as ``"memory"`` or ``"cpu"``.
    root : Path
        Folder that contains ``proc`` and ``sys``.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    mounts = root / "sys/fs/cgroup"
    for line in [*lines, "0::/", f"1:{controller}:/"]:
        number, controllers, path = line.split(":", 2)
        innermost = PurePosixPath(path.lstrip("/"))
        for group in (innermost, *innermost.parents):
            if number == "0":
                yield 2, mounts / group
                yield 2, mounts / "unified" / group
            elif controller in controllers.split(","):
                yield 1, mounts / controller / group
                if controllers != controller:
                    yield 1, mounts / controllers / group
