"""The place of a rank's states: memory if they fit, otherwise a file, otherwise none (they are computed again).

If a GPU computes, its own memory is the first place, and that of its host the second.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed
from rcdp_hpc.runtime.device import CPU
from rcdp_hpc.runtime.files import free_bytes, reserve
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.ram import MIB, is_out_of_memory, is_tmpfs
from rcdp_hpc.training.states.cache import CachedStates, cache_dtype, cache_states
from rcdp_hpc.training.states.host_states import HostStates, lock_pages
from rcdp_hpc.training.states.memory import Memories
from rcdp_hpc.training.states.recompute import read_samples, sample_bytes

log = logging.getLogger(__name__)

# Left free on the disk for other files.
SPARE_BYTES = 2**26
Ranges = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class _Need:
    """The memory that the rows of this rank need, and the memory that it may use.

    Attributes
    ----------
    rows, width : int
        Training and validation rows, and values of each.
    dtype : torch.dtype
        Dtype of the states.
    samples : int
        Bytes of the raw samples.
    memories : Memories
        Bytes that the rank may use.
    """

    rows: int
    width: int
    dtype: torch.dtype
    samples: int
    memories: Memories

    @property
    def states(self) -> int:
        """Bytes of the states."""
        return self.rows * self.width * self.dtype.itemsize

    def beyond_memory(self) -> str:
        """Return why the states are not stored in the memory of the host; empty if they fit."""
        return self._beyond(self.memories.host, "(states.memory_mib, or its share of the memory)")

    def beyond_gpu(self) -> str:
        """Return why the states are not stored on the GPU; empty if they fit."""
        memories = self.memories
        share = "states.memory_mib, or its share of the free memory, less that of the network"
        return self._beyond(memories.gpu or 0, f"of {memories.gpu_name} ({share})")

    def _beyond(self, memory: int, whose: str) -> str:
        if self.states <= memory:
            return ""
        return (
            f"the states of {self.rows} rows, {self.width} values each, take {_mib(self.states)}, more than the "
            f"{memory // MIB} MiB that a rank may use {whose}"
        )

    def empty(self, where: torch.device) -> tuple[torch.Tensor | None, str]:
        """Return a tensor for the states, shape (rows, width), or None and why there is none."""
        try:
            return torch.empty((self.rows, self.width), dtype=self.dtype, device=where), ""
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None, f"{where} has no {_mib(self.states)} of memory for the states, though they should fit"

    def file(self) -> tuple[torch.Tensor | None, str]:
        """Return a tensor in a file for the states, shape (rows, width), or None and why there is none."""
        if self.states > self.memories.disk:
            return None, f"states.disk_mib = {self.memories.disk // MIB} allows no file of {_mib(self.states)}"
        folder = Path(tempfile.gettempdir())
        try:
            if is_tmpfs(folder):
                return None, f"{folder} is in memory, not on a disk (set TMPDIR to a disk)"
            free = free_bytes(folder)
            if free < self.states + SPARE_BYTES:
                return None, f"{folder} has {free // MIB} MiB free for a file of {_mib(self.states)} (set TMPDIR)"
            return self._mapped(folder), ""
        except OSError as error:
            return None, f"a file of {_mib(self.states)} cannot be written to {folder} ({error.strerror}; set TMPDIR)"

    def _mapped(self, folder: Path) -> torch.Tensor:
        # The file has no name, so that it is removed however the process ends.
        with tempfile.TemporaryFile(dir=folder, prefix="rcdp-") as file:
            # Reserved completely: if the disk gets full later, a mapped file kills the process without a message.
            reserve(file, self.states)
            mapped = np.memmap(file, np.uint8, "r+", shape=(self.states,))
        return torch.from_numpy(mapped).view(self.dtype).view(self.rows, self.width)

    def beyond_samples(self) -> str:
        """Return why states cannot be computed from samples in memory; empty if they can."""
        return "" if self.samples <= self.memories.host else f"the samples themselves take {_mib(self.samples)}"

    def advice(self) -> str:
        """Return what the user can do."""
        half = " set states.precision = 'bfloat16'," if self.dtype.itemsize > 2 else ""
        return (
            f"raise states.memory_mib or states.disk_mib,{half} select fewer states (reservoir.states, "
            "reservoir.reduction), or use fewer nodes or more machines"
        )


def place_states(
    config: Config,
    comm: Communicator,
    reservoir: StateSource,
    shards: ShardReader,
    partitions: Ranges,
    validation: tuple[int, int],
) -> tuple[CachedStates, CachedStates]:
    """Return the training and validation rows of this rank, with states in the same kind of place on all ranks.

    Collective. States are computed now and stored in memory. If they need more than ``states.memory_mib``, they are
    stored in a file in ``$TMPDIR``, with the same bits. If they also need more than ``states.disk_mib``, or a disk has
    no room, raw samples are stored, and states are computed again in every step.

    If a GPU computes the states, they are stored in its memory if they fit, less what the network needs. Otherwise they
    are in memory of the host, or in a file, and are copied to the GPU batch by batch, while it computes the step
    before.

    Parameters
    ----------
    config : Config
    comm : Communicator
    reservoir : StateSource
    shards : ShardReader
        The samples; not read later.
    partitions : sequence of (start, stop)
        This rank's training rows; each partition starts at the end of the one before.
    validation : (start, stop)
        This rank's validation rows.

    Raises
    ------
    InputError
        If the samples of a rank do not fit in memory either, or if ``partition.reshuffle_every`` needs stored states.
    StoppedError
        If a stop signal was received.
    """
    training = partitions[-1][1] - partitions[0][0]
    need = _need(config, comm, reservoir, shards, training + validation[1] - validation[0])
    room = _room(config, comm, reservoir, need)
    # Only states in the memory of the device that computes are available at once.
    slow = room is None or room.is_slow
    parts: list[tuple[str, Ranges, slice]] = [
        ("train", partitions, slice(training)),
        ("validation", [validation], slice(training, None)),
    ]
    started = time.perf_counter()
    with Progress("states", need.rows, enabled=comm.is_root and config.run.progress) as progress:

        def states_of(split: str, ranges: Ranges, rows: slice) -> CachedStates:
            if room is not None:
                cached = cache_states(reservoir, shards, split, ranges, progress, room.tensor[rows])
                return replace(cached, states=_on_device(cached.stored, reservoir.device), slow=slow)
            states, labels = read_samples(reservoir, shards, split, ranges, progress, need.dtype)
            return CachedStates(states, labels, ranges[0][0], slow=slow)

        train_states, validation_states = agree(comm, lambda: [states_of(*part) for part in parts])
    seconds = time.perf_counter() - started
    if config.extractor.trained or room is None:
        log.info("%d samples%s read in %.1f s", need.rows, "" if comm.size == 1 else " per rank", seconds)
    else:
        log.info(
            "states of %d rows%s computed once and cached in %.1f s (%s)",
            *(need.rows, "" if comm.size == 1 else " per rank", seconds, reservoir.kernel),
        )
    return train_states, validation_states


def _on_device(states: torch.Tensor, where: torch.device) -> torch.Tensor | HostStates:
    """Return stored states as rows on a device, which are copied on access if they are stored elsewhere."""
    return states if states.device == where else HostStates(states, where)


def _need(config: Config, comm: Communicator, reservoir: StateSource, shards: ShardReader, rows: int) -> _Need:
    memories = Memories.of_rank(config, comm, reservoir.device, shards.sample_shape, reservoir.width)
    return _Need(rows, reservoir.width, cache_dtype(config, reservoir), rows * sample_bytes(shards), memories)


@dataclass(frozen=True)
class _Room:
    """A tensor for the states of this rank, and whether access to them takes long."""

    tensor: torch.Tensor
    is_slow: bool


def _room(config: Config, comm: Communicator, reservoir: StateSource, need: _Need) -> _Room | None:
    """Return the room for this rank's states, None if they are not stored. Collective.

    The log has the choice and its reason.
    """
    beyond = ""
    if need.memories.gpu is not None:
        tensor, beyond = _in_memory(comm, need, need.beyond_gpu(), reservoir.device)
        if tensor is not None:
            log.info("states stored on %s: %s", need.memories.gpu_name, _of_limit(comm, need, need.memories.gpu))
            return _Room(tensor, False)
    on_host = need.memories.gpu is not None
    tensor, beyond_host = _in_memory(comm, need, need.beyond_memory(), CPU)
    if tensor is not None and on_host:
        lock_pages(tensor)
        log.info(
            "states stored in memory of the host, %s, and copied ahead of each step: %s",
            *(_of_limit(comm, need, need.memories.host), beyond),
        )
        return _Room(tensor, True)
    if tensor is not None:
        log.info("states stored in memory: %s", _of_limit(comm, need, need.memories.host))
        return _Room(tensor, False)
    beyond = "; ".join(filter(None, (beyond, beyond_host)))
    tensor, reason = need.file()
    no_file = _first(comm, reason)
    if tensor is not None and not no_file:
        log.info("states stored in a file in %s: %s", tempfile.gettempdir(), beyond)
        return _Room(tensor, True)
    no_samples = _first(comm, need.beyond_samples())
    if no_samples:
        raise agreed(InputError(f"{beyond}; {no_file}; {no_samples}: {need.advice()}"))
    if config.partition.reshuffle_every:
        raise agreed(
            InputError(
                f"{beyond}; {no_file}. partition.reshuffle_every exchanges states between ranks, which must store "
                f"them: set it to 0, or {need.advice()}"
            )
        )
    log.warning("states are computed again in every step: %s; %s", beyond, no_file)
    return None


def _in_memory(comm: Communicator, need: _Need, beyond: str, where: torch.device) -> tuple[torch.Tensor | None, str]:
    """Return a tensor for the states on a device, or None on all ranks and the reason of the first. Collective."""
    reason = _first(comm, beyond)
    if reason:
        return None, reason
    tensor, missing = need.empty(where)
    reason = _first(comm, missing)
    if reason:
        log.warning("%s: the next place is used", reason)
        return None, reason
    return tensor, ""


def _of_limit(comm: Communicator, need: _Need, limit: int) -> str:
    return f"{_mib(need.states)} of the {limit // MIB} MiB that {'may be used' if comm.size == 1 else 'a rank may use'}"


def _first(comm: Communicator, reason: str) -> str:
    """Return the reason of the lowest rank that has one, with the number of a rank other than 0. Collective."""
    reasons = [(rank, text) for rank, text in enumerate(comm.allgather(reason)) if text]
    rank, text = reasons[0] if reasons else (0, "")
    return f"rank {rank}: {text}" if rank else text


def _mib(size: int) -> str:
    return f"{math.ceil(size / MIB)} MiB"
