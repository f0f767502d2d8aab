"""The probabilities of a trained model, or of several, that the training of another network imitates.

They are computed once for each training row, before the first step, and kept in ``RUN/train/teacher.pt``: a resumed
training uses the same bits, and needs the teacher no more.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.repair import replaced_files
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.fields import Fields
from rcdp_hpc.model.named_model import named_model
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.code_consent import code_named_by
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, run_on_root
from rcdp_hpc.runtime.device import device
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.teacher_models import TEACHER, teacher_digest

log = logging.getLogger(__name__)

# Bytes of a rank's rows in one exchange.
EXCHANGE_BYTES = 2**24
# A probability of 0 counts as this one, so that its logarithm is finite.
LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
RESTART = "Restore the file, or train again with --restart."


@dataclass(frozen=True)
class TeacherTargets:
    """The probabilities of the teacher for rows of the training split.

    Attributes
    ----------
    logs : torch.Tensor, shape (rows, classes), float32
        Logarithms of the probabilities.
    first : int
        Index in the split of the first of these rows.
    temperature : float
        T.
    """

    logs: torch.Tensor
    first: int
    temperature: float

    def of(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the probabilities at the temperature T of rows by their indices in the split.

        ``softmax(log p / T)`` is ``softmax(z / T)`` of scores z with ``p = softmax(z)``.
        """
        return torch.softmax(self.logs[numbers - self.first] / self.temperature, 1)


def teacher_targets(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardReader,
    plan: BatchPlan,
    resumed: bool = False,
    allow_code: bool = False,
) -> TeacherTargets | None:
    """Return the teacher's probabilities of this rank's training rows; None without a teacher. Collective.

    Each rank computes those of its rows, in blocks within a partition, so that a row has the same bits for any number
    of ranks. Rank 0 writes all of them to the run directory. During the exchange, each rank holds the probabilities of
    all rows, ``4 rows * classes`` bytes, and with ``partition.reshuffle_every`` throughout the training.

    Parameters
    ----------
    config : Config
        ``loss.teacher`` and ``loss.teacher_temperature`` are used.
    comm : Communicator
    run : RunDirectory
    shards : ShardReader
    plan : BatchPlan
        The rows of this rank.
    resumed : bool
        Whether the training continues from a checkpoint, which binds it to its teacher.
    allow_code : bool
        Import classes that only the teacher's model file names.

    Raises
    ------
    InputError
        If a teacher is missing, has other classes or samples, or is not the one that the training started with.
    DataDamagedError
        If a teacher's file is damaged.
    """
    if not config.loss.teacher:
        return None
    record = run_on_root(comm, partial(_TeacherFile.of, config, run, shards, resumed))
    logs = _stored(comm, partial(record.load, shards, config.loss.teacher), plan, len(shards.classes))
    if logs is None:
        logs = _computed(config, comm, shards, plan, allow_code)
        agree_on_root(comm, partial(record.write, logs))
    first, stop = (0, plan.rows) if plan.reshuffle_every else plan.local_rows
    local = torch.from_numpy(logs[first:stop].copy()).to(device(config.training.device))
    return TeacherTargets(local, first, config.loss.teacher_temperature)


@dataclass(frozen=True)
class _TeacherFile:
    """The file with the probabilities, and what they were computed from.

    Attributes
    ----------
    path : Path
    digests : list of str
        SHA-256 of each teacher; empty for one that does not exist any more.
    made_with : str
        Data that determine the probabilities in addition to the teachers, as text.
    resumed : bool
        Whether a checkpoint binds the training to the file.
    """

    path: Path
    digests: list[str]
    made_with: str
    resumed: bool

    @classmethod
    def of(cls, config: Config, run: RunDirectory, shards: ShardReader, resumed: bool) -> _TeacherFile:
        path = run.train / "teacher.pt"
        digests = [teacher_digest(name, has_copy=path.exists()) for name in config.loss.teacher]
        made_with = json.dumps({"shards": shards.digest, "replaced": sorted(replaced_files(shards))})
        return cls(path, digests, made_with, resumed)

    def load(self, shards: ShardReader, teachers: Sequence[str]) -> NDArray[np.float32] | None:
        """Return the logarithms of the probabilities, shape (rows, classes); None if they are to be computed."""
        if not os.path.lexists(self.path):
            return None
        try:
            fields = Fields(str(self.path), checkpoint.load(self.path), "")
            made_with, digests = fields.text("made_with"), fields.json("teachers", list, "digests")
            logs = fields.tensors("scores").get("logs")
            expected = (shards.rows("train"), len(shards.classes))
            if logs is None or tuple(logs.shape) != expected or logs.dtype != torch.float32:
                fields.refuse("scores", f"float32 values of the shape {expected}")
        except DataDamagedError as error:
            if not all(self.digests):
                raise DataDamagedError(f"{error} The teacher is needed to compute it again: restore it.") from None
            log.warning("%s The teacher's probabilities are computed again, to the same bits.", error)
            return None
        same = len(digests) == len(self.digests)
        same = same and all(now in ("", then) for now, then in zip(self.digests, digests, strict=True))
        if same and made_with == self.made_with:
            return np.asarray(logs.numpy())
        if self.resumed and not same:
            raise InputError(
                f"loss.teacher = {', '.join(teachers)}: not the model that this training started with (its "
                f"probabilities are in {self.path}). {RESTART}"
            )
        return None

    def write(self, logs: NDArray[np.float32]) -> None:
        """Write the logarithms of the probabilities."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with os_errors_explained(self.path):
            self.path.unlink(missing_ok=True)
        content = {"made_with": self.made_with, "teachers": json.dumps(self.digests)}
        checkpoint.save(self.path, {**content, "scores": {"logs": torch.from_numpy(logs)}})


def _stored(
    comm: Communicator, load: Callable[[], NDArray[np.float32] | None], plan: BatchPlan, classes: int
) -> NDArray[np.float32] | None:
    """Return on every rank what rank 0 loads, shape (rows, classes); None if that is nothing. Collective."""
    loaded: list[NDArray[np.float32]] = []

    def load_one() -> bool:
        logs = load()
        loaded.extend([] if logs is None else [logs])
        return bool(loaded)

    if not run_on_root(comm, load_one):
        return None
    if comm.size == 1:
        return loaded[0]
    size = _rows_at_once(classes)
    blocks = [
        comm.broadcast(loaded[0][low : low + size] if comm.is_root else None) for low in range(0, plan.rows, size)
    ]
    return np.concatenate(blocks)


def _rows_at_once(classes: int) -> int:
    return max(1, EXCHANGE_BYTES // (4 * classes))


def _computed(
    config: Config, comm: Communicator, shards: ShardReader, plan: BatchPlan, allow_code: bool
) -> NDArray[np.float32]:
    """Return the logarithms of the mean probabilities of all training rows, shape (rows, classes). Collective."""
    started = time.perf_counter()
    own_code, where = code_named_by(config).values(), device(config.training.device)
    start, stop = plan.local_rows
    total = np.zeros((stop - start, len(shards.classes)))
    shown = comm.is_root and config.run.progress
    with Progress("teacher", len(config.loss.teacher) * (stop - start), enabled=shown) as progress:
        for name in config.loss.teacher:

            def add(name: str = name) -> None:
                model = TrainedModel.load(named_model(TEACHER, name), where, allow_code, own_code)
                _add_probabilities(model, shards, plan, total, progress)

            agree(comm, add)
    mean = total / len(config.loss.teacher)
    logs = _joined(comm, np.log(np.maximum(mean, LEAST_PROBABILITY)).astype(np.float32), plan)
    labels = shards.columns("train", start, stop, ["y"])["y"]
    correct = comm.allreduce(np.array([float((mean.argmax(1) == labels).sum())]))[0]
    count = len(config.loss.teacher)
    log.info(
        "probabilities of the teacher%s for %d training rows computed in %.1f s; it has %.2f %% of them right",
        *(f" (mean of {count} models)" if count > 1 else "", plan.rows, time.perf_counter() - started),
        100 * correct / plan.rows,
    )
    return logs


def _add_probabilities(
    model: TrainedModel, shards: ShardReader, plan: BatchPlan, total: NDArray[np.float64], progress: Progress
) -> None:
    """Add the probabilities of this rank's rows to `total`."""
    first, size = plan.local_rows[0], model.reservoir.batch_rows
    for partition in plan.local_partitions:
        start, stop = plan.partition_bounds(partition)
        for low in range(start, stop, size):
            signals.raise_if_stopped("computing the teacher's probabilities")
            high = min(low + size, stop)
            rows = shards.read("train", low, high)
            total[low - first : high - first] += model.probabilities(rows.x, scaled=True, lengths=rows.length)
            progress.advance(high - low)


def _joined(comm: Communicator, local: NDArray[np.float32], plan: BatchPlan) -> NDArray[np.float32]:
    """Return the rows of all ranks in order, on every rank. Collective."""
    if comm.size == 1:
        return local
    bounds = comm.allgather(plan.local_rows)
    joined = np.empty((plan.rows, local.shape[1]), np.float32)
    size = _rows_at_once(local.shape[1])
    for low in range(0, max(stop - start for start, stop in bounds), size):
        for (start, _), block in zip(bounds, comm.allgather(local[low : low + size]), strict=True):
            joined[start + low : start + low + len(block)] = block
    return joined
