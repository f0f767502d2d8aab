"""Errors of the operating system as messages for people: what failed on which file, why, and what to do."""

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
# What a file system answers, one way or another, to an operation that it does not have.
UNSUPPORTED = (
    errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTTY, errno.ENODEV, errno.EMLINK, errno.EXDEV,
)  # fmt: skip

_AGAIN = "then start again: what was complete before is kept."
_OTHER = "Choose an --out folder that you may write to."
_SERVER = "the file server does not answer. Wait until it is back, " + _AGAIN


# A disk that reports no room although it has this much is limited by something else.
_PLENTY_BYTES = 2**30


@dataclass(frozen=True)
class _Advice:
    """What an error means and what to do; "{error}" stands for the system's own words, "{free}" for the room left."""

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
    "cannot be written ({error}). The file system may not allow such a name (FAT and some network file systems allow "
    'none with : * ? " < > | or of other encodings). Choose another --out.',
    "cannot be read ({error}). The file system may not allow such a name or such an access.",
    InputError,
)
_HARDWARE = _both(
    "{error}: the disk or the connection to it fails. Ask the administrators to look at it (`dmesg` of this machine "
    f"names the device), or choose another --out; {_AGAIN}"
)
_UNREACHED = _both(f"{{error}}: {_SERVER}")
_BUSY = _both(f"{{error}}: another process uses it. End that process, {_AGAIN}")
_FILES = _both(
    "{error}: too many files are open at once. Raise the limit (`ulimit -n 4096`), or start fewer ranks a node."
)
_LACKING = _both(
    "{error}: the file system lacks an operation that is needed here. Choose a folder on another file system.",
    InputError,
)
_GONE = _both(
    "{error}: it was removed or renamed while it was needed, or never written. Put it back, or start the stage that "
    "writes it again.",
)
_ADVICE = {
    errno.ENOSPC: _both(f"no room left to write ({{free}}). Make room or choose another --out, {_AGAIN}"),
    errno.EDQUOT: _both(
        "your quota is used up ({error}), whatever room the disk has. Remove files of yours, ask for a larger quota "
        f"(`quota -s` shows it, on Lustre `lfs quota`), or choose another --out, {_AGAIN}"
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
        "{error}: another machine removed or replaced it on the file server, or the server was restarted. Start again; "
        "if that does not help, have the file system mounted again. What was complete before is kept."
    ),
    errno.EROFS: _Advice(
        f"cannot be written ({{error}}). {_OTHER} A disk that fails may have become read-only as well.",
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
    """Turn an operating-system error about `path` into a message for people.

    Parameters
    ----------
    error : OSError
    path : Path
        The file or folder that the message names.
    reading : bool
        Whether the file was read, not written.

    Returns
    -------
    RcdpError
        `InputError` if another place or name is needed, otherwise `StageFailedError`.
    """
    words = error.strerror or str(error) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0)
    if advice is None:
        return StageFailedError(f"{path}: {words}")
    text = advice.reading if reading else advice.writing
    free = _free_text(Path(path)) if "{free}" in text else ""
    return advice.kind(f"{path}: {text.format(error=words, free=free)}")


def unreadable_error(error: OSError, path: Path | str) -> RcdpError:
    """Return the error for a file of the user's that cannot be read: its own fault, or that of the disk or server."""
    advice = _ADVICE.get(error.errno or 0)
    if advice is not None and advice.kind is StageFailedError and error.errno != errno.ENOENT:
        return explain_os_error(error, path, reading=True)
    return InputError(f"{path}: cannot be read: {error.strerror or error}.")


def explained(error: OSError) -> RcdpError | None:
    """Return an error that nothing closer to its cause explained, as a message; None if it is not about a file."""
    if error.errno not in _ADVICE:
        return None
    name = error.filename2 if error.filename2 is not None else error.filename
    if isinstance(name, (str, bytes, os.PathLike)):
        return explain_os_error(error, os.fsdecode(name), reading=error.errno == errno.EACCES and _is_there(name))
    return explain_os_error(error, f"a file in use by {_place(error)}")


@contextmanager
def os_errors_explained(path: Path | None = None, reading: bool = False) -> Iterator[None]:
    """Raise operating-system errors of the block as explained errors about `path`.

    Without a path, those that name a file are explained as errors about that file; others are left as they are.
    """
    try:
        yield
    except OSError as error:
        found = explained(error) if path is None else explain_os_error(error, path, reading)
        if found is None:
            raise
        raise found from error


def errno_of(error: BaseException) -> int | None:
    """Return the system's error number that an exception is about: also of libraries that put it into their text."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno:
            return seen.errno
        found = re.search(r"errno = (\d+)", str(seen))
        if found and int(found[1]):
            return int(found[1])
        seen = seen.__cause__ or seen.__context__
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type: libraries add lines about their own internals."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _is_there(name: str | bytes | os.PathLike[str]) -> bool:
    try:
        return os.path.isfile(name)
    except OSError:
        return False


def _place(error: OSError) -> str:
    """Return the innermost module of this package that an error passed through."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    own = [name for name in modules if name.startswith("rcdp_hpc.") and name != __name__]
    return own[-1] if own else "rcdp_hpc"


def _free_text(path: Path) -> str:
    """Return how much room the disk of a file has left, or what is lacking instead."""
    for folder in (path, *path.absolute().parents):
        try:
            status = os.statvfs(folder)
        except OSError:
            continue
        if status.f_files and not status.f_favail and status.f_bavail:
            return "the file system has no room for one more file; remove files"
        free = f"{status.f_bavail * status.f_frsize / 2**20:.1f} MiB free"
        enough = status.f_bavail * status.f_frsize > _PLENTY_BYTES
        return f"{free}, so that a limit of the folder or of the number of files may be reached" if enough else free
    return "free space unknown"
