"""Files that are either whole or not there: written under a temporary name, then moved into place."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from rcdp_hpc.errors import InputError, RcdpError, StageFailedError
from rcdp_hpc.runtime.json_text import read_json_file
from rcdp_hpc.runtime.owners import temporary_prefix

# There is no way to read the umask without setting it, which is safe only while there is one thread.
_UMASK = os.umask(0)
os.umask(_UMASK)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_WRONG_PLACE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


def explain_os_error(error: OSError, path: Path) -> RcdpError:
    """Turn an operating-system error about `path` into a message for people."""
    if error.errno in NO_ROOM:
        return StageFailedError(
            f"{path}: no room left to write ({_free_text(path)}). Make room or choose another --out, then start again: "
            "what was complete before is kept."
        )
    if error.errno in _WRONG_PLACE:
        return InputError(
            f"{path}: cannot be written ({error.strerror}). Choose an --out folder that you may write to."
        )
    return StageFailedError(f"{path}: {error.strerror or error}")


def _free_text(path: Path) -> str:
    folder = path
    while not folder.exists():
        folder = folder.parent
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB free"
    except OSError:
        return "free space unknown"


@contextmanager
def os_errors_explained(path: Path) -> Iterator[None]:
    """Raise operating-system errors of the block as explained errors about `path`."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, path) from error


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk and move it into place.

    Raises
    ------
    StageFailedError, InputError
        If the disk is full or the folder cannot be written; an earlier file at `path` is left as it was.
    """
    with os_errors_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path.name), suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_UMASK)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomic(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def overwrite_json(path: Path, value: Any) -> None:
    """Write a small JSON file over itself, not atomically: a full disk has no room for a second one beside it."""
    content = (json.dumps(value, indent=1) + "\n").encode()
    with os_errors_explained(path), open(path, "r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> Any:
    """Read a JSON file that this package wrote.

    Raises
    ------
    DataDamagedError
        If it cannot be read or is not valid JSON.
    """
    return read_json_file(path)
