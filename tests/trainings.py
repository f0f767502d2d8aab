"""Several trainings in one start of ranks, one after the other: starting ranks takes longer than a small training."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from launch import run_ranks

from rcdp_hpc.config import load_config
from rcdp_hpc.config.choices.engines import AUTO
from rcdp_hpc.config.choices.engines import ENGINES as TABLE
from rcdp_hpc.errors import RcdpError
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.connect import connect
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.logs import log_to_terminal

ENGINES = tuple(name for name in TABLE.names if name != AUTO)
ENGINES_HERE = tuple(name for name in ENGINES if name != "horovod" or find_spec("horovod"))
ERROR = "error-of-the-training.json"
# What only a training or an evaluation writes.
_LATER = ("train", "report", "train.json", "evaluate.json", "lock", "log.jsonl", ERROR)


def on_both_engines(function):
    """Run a test once for each engine, with its name as the argument ``engine``."""
    missing = pytest.mark.skipif("horovod" not in ENGINES_HERE, reason="Horovod is not installed")
    values = [pytest.param(name, marks=missing if name == "horovod" else ()) for name in ENGINES]
    return pytest.mark.parametrize("engine", values)(function)


@dataclass(frozen=True)
class Training:
    """A training, or other stages, in a run directory.

    Attributes
    ----------
    out : str
        The run directory; one that exists is continued.
    settings : sequence of str
        ``section.key=value``
    engine : str
        The engine; empty for that of the settings.
    source : str
        The run from which shards and the result of a search are copied, if there is no run directory yet.
    stages : sequence of str
    fault : sequence
        Name of a fault, or another condition, of `FAULTS`, and its arguments.
    profile : str
    """

    out: str
    settings: Sequence[str]
    engine: str = ""
    source: str = ""
    stages: Sequence[str] = ("train",)
    fault: Sequence[Any] = ()
    profile: str = "digits"


def train_together(
    ranks: int, trainings: Sequence[Training], timeout: float = 200, launcher: Sequence[str] = ()
) -> str:
    """Run trainings on this number of ranks in one start, and return the output; 0 ranks are this process.

    A refused, stopped or failed training does not end the others: see `error_of`.

    Parameters
    ----------
    ranks : int
    trainings : sequence of Training
    timeout : float
        Seconds on an idle machine.
    launcher : sequence of str
        Command that starts the ranks; default: mpirun.
    """
    if not ranks:
        _run_all(SingleProcess(), trainings)
        return ""
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, "plan.json")
        plan.write_text(json.dumps([asdict(training) for training in trainings]))
        if launcher:
            done = run_ranks(0, [*launcher, __file__, str(plan)], timeout=timeout)
        else:
            done = run_ranks(ranks, [sys.executable, __file__, str(plan)], timeout=timeout)
    assert done.returncode == 0, done.stdout
    return done.stdout


def error_of(out: Path) -> dict[str, Any]:
    """Return the error that all ranks raised in a run directory, as its kind, message and exit code; empty if none."""
    path = out / ERROR
    return json.loads(path.read_text()) if path.exists() else {}


def ended(out: Path) -> Path:
    """Return a run directory after a check that no error ended its training."""
    assert not error_of(out), error_of(out)
    return out


def messages(out: Path) -> str:
    """Return what rank 0 has logged in a run directory, one message in a line."""
    return "\n".join(json.loads(line)["message"] for line in (out / "log.jsonl").read_text().splitlines())


def _run_all(comm: Communicator, trainings: Sequence[Training]) -> None:
    for training in trainings:
        out = Path(training.out)
        if comm.is_root:
            (out / ERROR).unlink(missing_ok=True)
            if training.source and not out.exists():
                shutil.copytree(training.source, out, ignore=shutil.ignore_patterns(*_LATER))
        comm.barrier()
        engine = [f"parallel.engine={training.engine}"] if training.engine else []
        name, *arguments = training.fault or ("none",)
        try:
            with FAULTS[name](comm, *arguments):
                config = load_config(training.profile, [*training.settings, *engine])
                run_stages(training.stages, config, out, comm)
        except RcdpError as error:
            # Other ranks would wait forever for one that alone continues.
            if not error.agreed and comm.size > 1:
                raise
            if comm.is_root:
                entry = {"kind": type(error).__name__, "message": str(error), "code": error.exit_code}
                (out / ERROR).write_text(json.dumps(entry))
        finally:
            signals.clear()


@contextlib.contextmanager
def _none(comm: Communicator) -> Iterator[None]:
    yield


@contextlib.contextmanager
def _stopped(comm: Communicator, rank: int, epoch: int, step: int) -> Iterator[None]:
    """Send this rank a signal before a step of an epoch, both counted from 0."""
    from rcdp_hpc.training.loop import Trainer
    from rcdp_hpc.training.session import Session

    pause = Session.pause

    def signal_and_pause(self: Session) -> None:
        position = self.trainer.position
        if comm.rank == rank and (position.epoch, position.step) == (epoch, step):
            os.kill(os.getpid(), signal.SIGUSR1)
        pause(self)

    signals.install()
    every_step = mock.patch.object(Trainer, "_steps_between_pauses", return_value=1)
    with every_step, mock.patch.object(Session, "pause", signal_and_pause):
        yield


@contextlib.contextmanager
def _nan(comm: Communicator, rank: int, number: int) -> Iterator[None]:
    """Make the states of one training batch of a rank NaN, counted from 1, whenever it is fetched."""
    from rcdp_hpc.training.states.cache import CachedStates

    batch, met = CachedStates.batch, []

    def poisoned(self: CachedStates, rows: Any) -> Any:
        states, labels = batch(self, rows)
        met.append(rows.tolist())
        is_bad = comm.rank == rank and len(met) >= number and met[-1] == met[number - 1]
        return (states * float("nan") if is_bad else states), labels

    with mock.patch.object(CachedStates, "batch", poisoned):
        yield


@contextlib.contextmanager
def _rates(comm: Communicator, *rates: float) -> Iterator[None]:
    """Let each rank measure the given rate of samples."""
    from rcdp_hpc.training.partition import rows

    with mock.patch.object(rows, "measured_rate", return_value=rates[comm.rank]):
        yield


@contextlib.contextmanager
def _gloo(comm: Communicator) -> Iterator[None]:
    """Let Gloo sum the gradients of the torch engine, which MPI sums otherwise, since they are small."""
    from rcdp_hpc.parallel import torch_distributed

    with mock.patch.object(torch_distributed, "MPI_BYTES", 0):
        yield


@contextlib.contextmanager
def _recorded(comm: Communicator, warm_ups: int) -> Iterator[None]:
    """Take steps as on a GPU: after this number of them from recordings, here of torch calls."""
    from recorded_step import CallRecorder

    from rcdp_hpc.training import graph, loop, recorded_steps

    recorder = CallRecorder()
    with (
        mock.patch.object(loop, "wants_recordings", return_value=True),
        mock.patch.object(recorded_steps, "CudaGraphs", return_value=recorder),
        mock.patch.object(graph, "WARM_UPS", warm_ups),
    ):
        yield
    assert (recorder.repeats > recorder.warm_ups) == (warm_ups < 10), vars(recorder)


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@contextlib.contextmanager
def _flipped(comm: Communicator, path: str) -> Iterator[None]:
    if comm.is_root:
        flip(Path(path))
    comm.barrier()
    yield


@contextlib.contextmanager
def _copied(comm: Communicator, source: str, target: str) -> Iterator[None]:
    if comm.is_root:
        shutil.copy(source, target)
    comm.barrier()
    yield


FAULTS = {
    "flipped": _flipped,
    "copied": _copied,
    "gloo": _gloo,
    "none": _none,
    "stopped": _stopped,
    "nan": _nan,
    "recorded": _recorded,
    "rates": _rates,
}


if __name__ == "__main__":
    plan = json.loads(Path(sys.argv[1]).read_text())
    communicator = connect()
    log_to_terminal(communicator.is_root)
    _run_all(communicator, [Training(**entry) for entry in plan])
    communicator.close()
