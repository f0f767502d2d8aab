"""Messages for errors of the operating system: which file, the cause, and what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb

from rcdp_hpc.errors import InputError, RcdpError, StageFailedError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# Error numbers with which file systems report an operation that they do not support.
UNSUPPORTED = (
    errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTTY, errno.ENODEV, errno.EMLINK, errno.EXDEV,
)  # fmt: skip

_AGAIN = "then start again: complete results are kept."
_OTHER = "Choose an --out folder that you may write to."
_SERVER = "the file server does not respond. Wait until it is available, " + _AGAIN


# If a disk with this much free space reports that it is full, another limit has been reached.
_PLENTY_BYTES = 2**30


@dataclass(frozen=True)
class _Advice:
    """Cause and remedy of an error. "{error}" is replaced with the system's message, "{free}" with the free space."""

    writing: str
    reading: str
    kind: type[RcdpError] = StageFailedError


def _both(text: str, kind: type[RcdpError] = StageFailedError) -> _Advice:
    return _Advice(text, text, kind)


_REFUSED = _Advice(
    f"cannot be written ({{error}}). {_OTHER}",
    "cannot be read ({error}). Make it readable for you, or name another file.",
    InputError,
)
_NAME = _Advice(
    "cannot be written ({error}). The file system may not allow the name (FAT and some network file systems allow "
    'neither : * ? " < > | nor other encodings). Choose another --out.',
    "cannot be read ({error}). The file system may not allow the name or this kind of access.",
    InputError,
)
_HARDWARE = _both(
    "{error}: the disk or the connection to it has failed. Ask the administrators to check it (`dmesg` on this machine "
    f"names the device), or choose another --out; {_AGAIN}"
)
_UNREACHED = _both(f"{{error}}: {_SERVER}")
_BUSY = _both(f"{{error}}: another process uses it. End that process, {_AGAIN}")
_FILES = _both("{error}: too many open files. Increase the limit (`ulimit -n 4096`), or start fewer ranks per node.")
_LACKING = _both(
    "{error}: the file system does not support an operation that is needed. Choose a folder on another file system.",
    InputError,
)
_GONE = _both(
    "{error}: the file was removed, renamed or never written. Restore it, or run the stage that writes it again.",
)
_ADVICE = {
    errno.ENOSPC: _both(f"no space left to write ({{free}}). Free some space or choose another --out, {_AGAIN}"),
    errno.EDQUOT: _both(
        "your disk quota is used up ({error}). Remove files, ask for a larger quota (`quota -s` shows it, on Lustre "
        f"`lfs quota`), or choose another --out, {_AGAIN}"
    ),
    errno.EFBIG: _both(
        "{error}: larger than the file system (4 GiB on FAT) or the limit of this process (`ulimit -f`) allows. Choose "
        f"another --out, or for shards a larger data.shards, {_AGAIN}"
    ),
    errno.EIO: _HARDWARE,
    errno.EREMOTEIO: _HARDWARE,
    errno.ENXIO: _HARDWARE,
    errno.EUCLEAN: _HARDWARE,
    errno.EBADMSG: _HARDWARE,
    errno.ESTALE: _both(
        "{error}: another machine has removed or replaced the file on the file server, or the server was restarted. "
        "Start again; complete results are kept. If the error persists, the file system must be mounted again."
    ),
    errno.EROFS: _Advice(
        f"cannot be written ({{error}}). {_OTHER} A failing disk may have become read-only, too.",
        "cannot be read ({error}).",
        InputError,
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENOTEMPTY), _REFUSED
    ),
    **dict.fromkeys((errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG), _NAME),
    **dict.fromkeys((errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.ENODEV, errno.EXDEV), _LACKING),
    **dict.fromkeys(
        (errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ESHUTDOWN, errno.ENETUNREACH),
        _UNREACHED,
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _FILES),
    **dict.fromkeys((errno.EBUSY, errno.ETXTBSY), _BUSY),
    errno.EDEADLK: _both("{error}: the file system's lock service failed. Start again."),
    errno.ENOLCK: _both("{error}: the file system's lock service failed. Start again."),
    errno.ENOENT: _GONE,
}


def explain_os_error(error: OSError, path: Path | str, reading: bool = False) -> RcdpError:
    """Return an error with a message that names a file, the cause and a remedy.

    Parameters
    ----------
    error : OSError
    path : Path or str
        The file or folder.
    reading : bool
        Whether the file was read, not written.

    Returns
    -------
    RcdpError
        `InputError` if another place or name is needed, otherwise `StageFailedError`.
    """
    cause = error.strerror or str(error) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0)
    if advice is None:
        return StageFailedError(f"{path}: {cause}")
    text = advice.reading if reading else advice.writing
    free = _free_text(Path(path)) if "{free}" in text else ""
    return advice.kind(f"{path}: {text.format(error=cause, free=free)}")


def unreadable_error(error: OSError, path: Path | str) -> RcdpError:
    """Return the error for an input file that cannot be read: a failure of the disk or server, or an `InputError`."""
    advice = _ADVICE.get(error.errno or 0)
    if advice is not None and advice.kind is StageFailedError and error.errno != errno.ENOENT:
        return explain_os_error(error, path, reading=True)
    return InputError(f"{path}: cannot be read: {error.strerror or error}.")


def explain_if_about_file(error: OSError) -> RcdpError | None:
    """Return the explanation of an error that no caller has explained; None if it is not about a file."""
    if error.errno not in _ADVICE:
        return None
    name = error.filename2 if error.filename2 is not None else error.filename
    if isinstance(name, (str, bytes, os.PathLike)):
        return explain_os_error(error, os.fsdecode(name), reading=error.errno == errno.EACCES and _is_there(name))
    return explain_os_error(error, f"a file in use by {_place(error)}")


@contextmanager
def os_errors_explained(path: Path | None = None, reading: bool = False) -> Iterator[None]:
    """Convert operating-system errors of a block into explained errors about `path`.

    Without a path, errors that name a file are explained as errors about that file; others are raised unchanged.
    """
    try:
        yield
    except OSError as error:
        explanation = explain_if_about_file(error) if path is None else explain_os_error(error, path, reading)
        if explanation is None:
            raise
        raise explanation from error


def errno_of(error: BaseException) -> int | None:
    """Return the system's error number of an exception or its causes, also if a library has it only in a text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return cause.errno
        number = re.search(r"errno = (\d+)", str(cause))
        if number and int(number[1]):
            return int(number[1])
        cause = cause.__cause__ or cause.__context__
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type. Libraries add lines about their internals."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _is_there(name: str | bytes | os.PathLike[str]) -> bool:
    try:
        return os.path.isfile(name)
    except OSError:
        return False


def _place(error: OSError) -> str:
    """Return the innermost module of this package that an error passed through."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    package = [name for name in modules if name.startswith("rcdp_hpc.") and name != __name__]
    return package[-1] if package else "rcdp_hpc"


def _free_text(path: Path) -> str:
    """Return the free space on the disk of a file, or the limit that may have been reached instead."""
    for folder in (path, *path.absolute().parents):
        try:
            status = os.statvfs(folder)
        except OSError:
            continue
        if status.f_files and not status.f_favail and status.f_bavail:
            return "the file system has reached its maximum number of files; remove some"
        free = f"{status.f_bavail * status.f_frsize / 2**20:.1f} MiB free"
        is_plenty = status.f_bavail * status.f_frsize > _PLENTY_BYTES
        return f"{free}, so a limit of the folder or of the number of files may be reached" if is_plenty else free
    return "free space unknown"
