"""Commands of ``rcdp`` in child processes of a process that has imported all modules: 0.1 s each instead of 3 s."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import importlib
import os
import pkgutil
import resource
import select
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Memory of a command in bytes beyond the libraries, at which allocations fail.
MEMORY = 6 * 2**30
# Modules that a normal start imports late.
LATE = (
    "h5py", "imblearn.over_sampling", "matplotlib.pyplot", "matplotlib.backends.backend_agg", "pyarrow.compute",
    "pyarrow.csv", "pyarrow.parquet", "scipy.sparse.linalg",
    "sklearn.datasets", "sklearn.ensemble", "PIL.Image", "torch", "torch._dynamo", "torch.utils.serialization",
)  # fmt: skip
# Modules that start MPI or Horovod when they are imported, or need Triton.
NOT_HERE = (
    *("rcdp_hpc.__main__", "rcdp_hpc.runtime.comm.mpi", "rcdp_hpc.runtime.comm.horovod"),
    "rcdp_hpc.reservoir.kernels.triton_step",
)


@dataclass(frozen=True)
class Done:
    """The end of a command.

    Attributes
    ----------
    code : int
        Exit code, or the negative number of the signal that ended it.
    timed_out : bool
        Whether it was killed at its time limit.
    text : str
        Its output on stdout and stderr.
    seconds : float
    peak : int
        Peak resident memory in MiB, including the libraries.
    """

    code: int
    timed_out: bool
    text: str
    seconds: float
    peak: int


@dataclass(frozen=True)
class Signal:
    """A signal to send to a command `after` seconds from its start."""

    number: int
    after: float


def import_everything() -> None:
    """Import the package and the modules that it imports late, with one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    package = importlib.import_module("rcdp_hpc")
    cli = importlib.import_module("rcdp_hpc.cli")
    main = cli.main
    for module in pkgutil.walk_packages(package.__path__, "rcdp_hpc."):
        if module.name not in NOT_HERE:
            importlib.import_module(module.name)
    # The import of a module replaces the function of the same name in its package.
    cli.main = main
    for name in LATE:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    sys.modules["PIL.Image"].preinit()
    # Exclude existing objects from the garbage collection of child processes, which would copy their memory pages.
    gc.collect()
    gc.freeze()


def rcdp(
    arguments: Sequence[str],
    folder: Path,
    limit: float,
    *,
    env: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
    sent: Signal | None = None,
) -> Done:
    """Run a command of ``rcdp`` in a child process and wait for it.

    Parameters
    ----------
    arguments : sequence of str
    folder : Path
        Working directory. The output is written to the file ``output`` in it.
    limit : float
        Seconds after which the command counts as hanging and is killed, with a dump of its tracebacks.
    env : mapping, optional
        Additional environment variables.
    before : callable, optional
        Called in the child before the command, to set hooks and limits.
    sent : Signal, optional
        Signal to send to the child.
    """
    child = start(arguments, folder, limit, env=env, before=before)
    if sent is not None and not child.ended(sent.after):
        child.send(sent.number)
    return child.wait()


class Child:
    """A running command.

    Parameters
    ----------
    pid : int
    output : Path
    limit : float
        Time limit in seconds.
    """

    def __init__(self, pid: int, output: Path, limit: float) -> None:
        self.pid = pid
        self.output = output
        self._handle = os.pidfd_open(pid)
        self._started = time.monotonic()
        self._limit = limit

    def ended(self, seconds: float) -> bool:
        """Wait up to `seconds`; return whether the command has ended."""
        return bool(select.select([self._handle], [], [], max(0.0, seconds))[0])

    def send(self, number: int) -> None:
        """Send a signal to the command."""
        signal.pidfd_send_signal(self._handle, number)

    def wait(self) -> Done:
        """Wait for the end of the command, at most until its limit."""
        timed_out = not self.ended(self._started + self._limit - time.monotonic())
        # Also ends processes that the command has started.
        _kill_group(self.pid)
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self._handle)
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        code = os.waitstatus_to_exitcode(status)
        return Done(code, timed_out, text, time.monotonic() - self._started, usage.ru_maxrss // 1024)


def start(
    arguments: Sequence[str],
    folder: Path,
    limit: float,
    *,
    env: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
    name: str = "output",
) -> Child:
    """Start a command of ``rcdp`` in a child process; parameters as for `rcdp`, and the name of the output file."""
    output = folder / name
    pid = fork(lambda: _command(arguments, folder, output, limit, env or {}, before))
    return Child(pid, output, limit)


def fork(work: Callable[[], int]) -> int:
    """Run `work` in a child process, which exits with its return value; return the process number."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _command(
    arguments: Sequence[str],
    folder: Path,
    output: Path,
    limit: float,
    env: Mapping[str, str],
    before: Callable[[], None] | None,
) -> int:
    os.setsid()
    # The exit handlers of the parent must not run in the child.
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    # Until the command begins, signals have their default actions.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    _redirect(output)
    os.chdir(folder)
    os.environ.update(env)
    sys.path.insert(0, env.get("PYTHONPATH", str(folder)))
    sys.argv = ["rcdp", *arguments]
    faulthandler.enable(file=sys.__stderr__)
    faulthandler.dump_traceback_later(max(1.0, limit - 1), file=sys.__stderr__)
    _limit_memory()
    if before is not None:
        before()
    return _main(arguments)


def _redirect(output: Path) -> None:
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((nothing, 0), (target, 1), (target, 2)):
        os.dup2(descriptor, standard)
    os.close(target)
    os.close(nothing)
    # Opened as Python does for a file, in place of the streams of a test.
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _main(arguments: Sequence[str]) -> int:
    """Call the command line like the console script does, including the exit handlers of the interpreter."""
    from rcdp_hpc.cli import main

    code: int | str | None = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main(list(arguments))
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    return code if isinstance(code, int) else int(code is not None)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
