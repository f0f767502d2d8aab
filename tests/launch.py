"""Starting real ranks in tests, with a time limit, so that a hang is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

# A killed mpirun leaves its folder, and a later one with the same process number cannot start: "The PMIx server's
# listener thread failed to start". So each mpirun has a separate folder.
_FOLDERS = tempfile.TemporaryDirectory(prefix="mpi-", ignore_cleanup_errors=True)


# Four ranks on two cores next to other tests take twice as long. A hang fails before pytest's own limit.
SLACK, LONGEST = 2.5, 560.0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment for ranks: one thread each, root allowed, this virtual environment first."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMPI_", "PMIX_", "HOROVOD_", "SLURM_"))
    }
    env.update(
        PATH=f"{BIN}{os.pathsep}{env.get('PATH', '')}",
        PYTHONPATH=f"{REPOSITORY}{os.pathsep}{env.get('PYTHONPATH', '')}",
        OMP_NUM_THREADS="1",
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
        # With more ranks than cores, a waiting rank yields its core.
        OMPI_MCA_mpi_yield_when_idle="1",
        PRTE_MCA_prte_local_tmpdir_base=tempfile.mkdtemp(dir=_FOLDERS.name),
    )
    return {**env, **(extra or {})}


def mpirun_command(ranks: int, command: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """Return the mpirun command line for `ranks` ranks on this machine."""
    return [str(mpirun()), "-n", str(ranks), "--oversubscribe", "--bind-to", "none", *options, *command]


def mpirun() -> Path | str:
    """Return the mpirun that belongs to the environment's MPI."""
    own = BIN / "mpirun"
    return own if own.exists() else "mpirun"


def start_ranks(
    ranks: int, command: Sequence[str], env: Mapping[str, str] | None = None, options: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start a command on `ranks` ranks (0: without a launcher) and return at once."""
    line = list(command) if ranks == 0 else mpirun_command(ranks, command, options)
    return subprocess.Popen(
        line, env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 150) -> None:
    """Wait until a condition holds; fail with the output of the command if it ends or exceeds the time limit."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            done = finish(process, 10)
            raise AssertionError(f"{done.args} ended with {done.returncode} before that:\n{done.stdout}")
        if time.monotonic() > deadline:
            finish(process, 1)
            raise AssertionError(f"{process.args} ended just now, {seconds} s were not enough")
        time.sleep(0.02)


def processes_of_ranks(launcher: subprocess.Popen[str]) -> dict[int, psutil.Process]:
    """Return the processes of the ranks that a launcher has started, by rank."""
    found = {}
    for process in psutil.Process(launcher.pid).children(recursive=True):
        with suppress(psutil.Error):  # a short-lived process that has ended
            environ = process.environ()
            rank = environ.get("HOROVOD_RANK", environ.get("OMPI_COMM_WORLD_RANK"))
            if rank is not None and "python" in process.name():
                found[int(rank)] = process
    return found


def finish(process: subprocess.Popen[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Wait for a started command; kill its process group and fail if it takes longer than `timeout` seconds."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:
        # Ranks are in separate process groups, and would poll for messages forever. They are killed when the test is
        # interrupted, too.
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        output, _ = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise AssertionError(f"{process.args} was still running after {timeout} s:\n{output[-4000:]}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, output, "")


def run_ranks(
    ranks: int,
    command: Sequence[str],
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a command on `ranks` ranks (0: without mpirun) and return its exit code and joined output.

    `timeout` is for an idle machine; next to other tests the command gets `SLACK` times as long.
    """
    return finish(start_ranks(ranks, command, env, options), min(SLACK * timeout, LONGEST))


def rcdp(*arguments: str) -> list[str]:
    """Return the command line of ``rcdp`` with this interpreter."""
    return [sys.executable, "-m", "rcdp_hpc", *arguments]


def python(code: str) -> list[str]:
    """Return the command line that runs `code` with this interpreter."""
    return [sys.executable, "-c", code]
