"""Limits of a candidate: seconds and memory."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from rcdp_hpc.config import Config, ReservoirSection
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.kept_steps import prepared_features
from rcdp_hpc.reservoir.reductions import feature_shape
from rcdp_hpc.reservoir.states import DEFAULT_BATCH_ROWS
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.gpus import ranks_of_same_gpu
from rcdp_hpc.runtime.device import WORKSPACE, total_gpu_memory
from rcdp_hpc.runtime.ram import MIB, machine_memory
from rcdp_hpc.runtime.threads import ranks_on_host
from rcdp_hpc.search.evaluation.inner_folds import uses_one_pass
from rcdp_hpc.search.evaluation.one_pass import pass_bytes
from rcdp_hpc.search.evaluation.ridge import uses_left_out
from rcdp_hpc.training.checks import elm_bytes
from rcdp_hpc.training.work import readout_bytes

MEMORY_STEP = 64 * MIB  # the memory that a rank uses is rounded up to a multiple


class _TimeIsUp(BaseException):
    """Not an Exception, so that a user's `except Exception` does not swallow it."""


class TookTooLongError(CandidateError):
    """A candidate has exceeded its time limit."""


class Clock:
    """Checks whether a candidate has exceeded its time limit.

    Parameters
    ----------
    seconds : float
        0 for no limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started = time.monotonic()

    def check(self) -> None:
        """Raise a `CandidateError` if the time is up."""
        if self.seconds and time.monotonic() - self.started > self.seconds:
            raise TookTooLongError(too_long(self.seconds))


def too_long(seconds: float) -> str:
    """Return the reason of a candidate that exceeded its time limit."""
    return f"took longer than search.candidate_seconds = {seconds:g}"


@contextmanager
def time_limit(seconds: float, alarm: bool = True) -> Iterator[Clock]:
    """Limit the time of a block, by an alarm signal in the main thread and by the clock that it yields.

    The alarm interrupts Python code, and native code when it returns. If native code does not return, the watchdog of
    the journal ends the job.

    Parameters
    ----------
    seconds : float
        0 for no limit.
    alarm : bool
        False if ranks work together: an alarm on one rank would leave the others waiting in a collective.

    Raises
    ------
    CandidateError
        If the time is up.
    """
    clock = Clock(seconds)
    if not (seconds and alarm and threading.current_thread() is threading.main_thread()):
        yield clock
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TimeIsUp

    earlier_handler = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield clock
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TimeIsUp:
        raise TookTooLongError(too_long(seconds)) from None
    finally:
        signal.signal(signal.SIGALRM, earlier_handler)


def estimated_bytes(config: Config, shape: tuple[int, int], rows: int, classes: int) -> int:
    """Return an estimate of the memory of one candidate, without the rows, in bytes.

    It includes the matrices of the reservoir (for the states, sparse, and dense for the eigenvalues by LAPACK), one
    block of states, and the largest of: the Gram sums (with folds, those of every fold), their copy for the solution
    and the states of validation rows;
    for leave-one-out the states of all rows; with ``search.evaluation = "train"`` the states of all rows, and again in
    float64, or the sums of an extreme learning machine. Without a reservoir there are no matrices, and the states are
    the sequences.

    Parameters
    ----------
    config : Config
        Configuration with the candidate's values.
    shape : tuple of int
        Steps of the longest sequence, and input features per step.
    rows, classes : int
        Training and validation rows; number of classes.
    """
    width, matrix, construction = _source_bytes(config.reservoir, shape)
    nodes = 0 if config.reservoir.kind == "none" else config.reservoir.nodes
    inputs = prepared_features(config.reservoir, shape[1])
    block = (config.reservoir.batch_rows or DEFAULT_BATCH_ROWS) * (12 * width + 20 * (nodes + inputs))
    if config.search.evaluation == "train" and config.readout.autoencodes:
        # A step of wavelet packets is a band.
        bands = shape[0] if config.readout.bands == "separate" else 1
        fit = rows * width * 4 + elm_bytes(config.readout, width, bands)
    elif config.search.evaluation == "train":
        fit = rows * width * (4 + 8 + 8) + readout_bytes(config, width, shape[0], rows)
    else:
        fit = 3 * 8 * width * (width + classes)
        if uses_one_pass(config):
            fit += pass_bytes(rows, width, classes, config.search.folds) + 2 * 4 * rows * width
        elif config.search.folds > 1:
            fit += 2 * 4 * rows * width  # states of the original rows, and of one fold
        else:
            fit += 4 * min(rows, config.search.validation_rows) * width
        if uses_left_out(config, rows, width):
            fit = rows * width * (4 + 3 * 8) + 3 * 8 * min(rows, width) ** 2
    return int(max(matrix + construction, matrix + block + fit))


def _source_bytes(reservoir: ReservoirSection, shape: tuple[int, int]) -> tuple[int, int, int]:
    """Return the features of a row, the bytes of a reservoir's matrices, and more bytes while they are built."""
    steps, features = shape[0], prepared_features(reservoir, shape[1])
    if reservoir.kind == "none":
        return steps * features, 0, 0
    output, nodes = feature_shape(reservoir, steps), reservoir.nodes
    if reservoir.kind == "diagonal":
        mixing = output.parts * nodes * (2 * reservoir.memory_units + 1)
        return output.features, 8 * mixing, 3 * 8 * mixing
    # A stacked reservoir reads the states of the one below it. float32, twice during conversion.
    inputs = features if reservoir.layers == 1 else max(nodes, features)
    matrix = 8 * output.parts * nodes * (nodes + inputs + 33)
    sparse = 3 * 16 * output.parts * round(reservoir.density * nodes**2)
    eigen = 3 * 8 * nodes**2 if nodes <= 2000 and reservoir.scaling == "spectral_radius" else 0
    return output.features, matrix, sparse + eigen


def memory_limit(config: Config, ranks: int, rows: int = 0, used: int = 0) -> int:
    """Return the bytes that a candidate may need: the configured limit, or the remaining memory of a rank.

    Parameters
    ----------
    config : Config
    ranks : int
        Ranks on this machine.
    rows : int
        Bytes of the rows that these ranks share.
    used : int
        Bytes that a rank uses before any candidate; rounded up to a multiple of 64 MiB, so that a resumed search has
        the same limit.
    """
    if config.search.candidate_memory:
        return config.search.candidate_memory * MIB
    return max(0, (machine_memory() - rows) // ranks - math.ceil(used / MEMORY_STEP) * MEMORY_STEP)


def gpu_limit(config: Config, comm: Communicator, where: torch.device) -> int:
    """Return the bytes of a GPU that a candidate may need: the configured limit, or the share of a rank. Collective.

    It is a share of the whole memory of the GPU, whatever other programs use, so that a resumed search has the same.
    """
    share = (total_gpu_memory(where) - WORKSPACE) // ranks_of_same_gpu(comm, where)
    return config.search.candidate_memory * MIB or max(0, share)


def agreed_limit(config: Config, comm: Communicator, rows: int, used: int, device: str = "cpu") -> int:
    """Return the least limit of all ranks, so that no result depends on the rank. Collective.

    A candidate that a GPU computes must fit there and, since its matrices are built by processors, in main memory.

    Parameters
    ----------
    config, rows, used
        As of `memory_limit`.
    comm : Communicator
    device : str
        Torch's name of the device that computes candidates.
    """
    limits = [memory_limit(config, ranks_on_host(comm), rows, used)]
    if torch.device(device).type == "cuda":
        limits.append(gpu_limit(config, comm, torch.device(device)))
    return min(comm.allgather(min(limits)))


def refuse_too_large(needed: int, limit: int) -> None:
    """Raise a `CandidateError` if the estimated bytes are above the limit."""
    if needed > limit:
        raise CandidateError(
            f"needs about {max(needed // MIB, 1)} MiB, more than the {limit // MIB} MiB that a candidate may take "
            "(search.candidate_memory, or this rank's share of the memory)"
        )
