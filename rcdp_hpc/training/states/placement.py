"""Where a rank keeps the states it trains on: in memory where they fit, then in a file, otherwise nowhere."""

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
from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed
from rcdp_hpc.runtime.files import free_bytes, reserve
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.ram import MIB, is_tmpfs, machine_memory
from rcdp_hpc.runtime.threads import ranks_on_host
from rcdp_hpc.training.states.cache import CachedStates, cache_dtype, cache_states
from rcdp_hpc.training.states.recompute import read_samples, sample_bytes

log = logging.getLogger(__name__)

# Left free on the disk, for whatever else is written there.
SPARE_BYTES = 2**26
Pieces = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class _Need:
    """What the rows of this rank take, and what it may take.

    Attributes
    ----------
    rows, width : int
        Training and validation rows, and values of each.
    dtype : torch.dtype
        Of the states.
    samples : int
        Bytes of the rows' raw samples.
    memory, disk : int
        Bytes that the rank may take.
    """

    rows: int
    width: int
    dtype: torch.dtype
    samples: int
    memory: int
    disk: int

    @property
    def states(self) -> int:
        """Bytes of the states."""
        return self.rows * self.width * self.dtype.itemsize

    def beyond_memory(self) -> str:
        """Return why the states are not kept in memory; nothing where they fit."""
        if self.states <= self.memory:
            return ""
        return (
            f"the states of {self.rows} rows, {self.width} values each, take {_mib(self.states)}, more than the "
            f"{self.memory // MIB} MiB that a rank may keep (states.memory_mib, or its share of the memory)"
        )

    def file(self) -> tuple[torch.Tensor | None, str]:
        """Return room for the states in a file, shape (rows, width), or why there is none."""
        if self.states > self.disk:
            return None, f"states.disk_mib = {self.disk // MIB} allows no file of {_mib(self.states)}"
        folder = Path(tempfile.gettempdir())
        try:
            if is_tmpfs(folder):
                return None, f"{folder} is no disk but memory (set TMPDIR to a disk)"
            free = free_bytes(folder)
            if free < self.states + SPARE_BYTES:
                return None, f"{folder} has {free // MIB} MiB free for a file of {_mib(self.states)} (TMPDIR names it)"
            return self._mapped(folder), ""
        except OSError as error:
            return None, f"{folder} takes no file of {_mib(self.states)} ({error.strerror}; TMPDIR names it)"

    def _mapped(self, folder: Path) -> torch.Tensor:
        # Without a name, so that it goes with the process, however that ends.
        with tempfile.TemporaryFile(dir=folder, prefix="rcdp-") as file:
            # All of it at once: a mapped file that finds its disk full later kills the process without a word.
            reserve(file, self.states)
            mapped = np.memmap(file, np.uint8, "r+", shape=(self.states,))
        return torch.from_numpy(mapped).view(self.dtype).view(self.rows, self.width)

    def beyond_samples(self) -> str:
        """Return why states cannot be computed from samples in memory either; nothing where they can."""
        return "" if self.samples <= self.memory else f"the samples themselves take {_mib(self.samples)}"

    def advice(self) -> str:
        """Return what would help."""
        half = " set states.precision = 'bfloat16'," if self.dtype.itemsize > 2 else ""
        return (
            f"raise states.memory_mib or states.disk_mib,{half} keep fewer states (reservoir.states, "
            "reservoir.reduction), take fewer nodes, or more machines"
        )


def place_states(
    config: Config,
    comm: Communicator,
    reservoir: StateSource,
    shards: ShardSet,
    pieces: Pieces,
    validation: tuple[int, int],
) -> tuple[CachedStates, CachedStates]:
    """Return the training and validation rows of this rank; where their states lie is the same on all ranks.

    Collective. States are computed now and kept in memory, or in a file in ``$TMPDIR`` where they are more than
    ``states.memory_mib``, the same bits. Where they are more than ``states.disk_mib`` too, or a disk has no
    room, raw samples are kept, and states computed anew in every step.

    Parameters
    ----------
    config : Config
    comm : Communicator
    reservoir : StateSource
    shards : ShardSet
        Where samples are read from, now and not later.
    pieces : sequence of (start, stop)
        This rank's training rows, each piece beginning where the one before ended.
    validation : (start, stop)
        Its validation rows.

    Raises
    ------
    InputError
        If the samples of a rank do not fit its memory either, or states must be kept (``partition.reshuffle_every``).
    StoppedError
        If a stop signal was received.
    """
    training = pieces[-1][1] - pieces[0][0]
    need = _need(config, comm, reservoir, shards, training + validation[1] - validation[0])
    room, far = _room(config, comm, reservoir, need)
    parts: list[tuple[str, Pieces, slice]] = [
        ("train", pieces, slice(training)),
        ("validation", [validation], slice(training, None)),
    ]
    started = time.perf_counter()
    with Progress("states", need.rows, enabled=comm.is_root and config.run.progress) as progress:

        def made(split: str, own: Pieces, rows: slice) -> CachedStates:
            if room is not None:
                return replace(cache_states(reservoir, shards, split, own, progress, room[rows]), far=far)
            states, labels = read_samples(reservoir, shards, split, own, progress, need.dtype)
            return CachedStates(states, labels, own[0][0], far=far)

        train, judged = agree(comm, lambda: [made(*part) for part in parts])
    seconds = time.perf_counter() - started
    if config.extractor.trained or room is None:
        log.info("%d samples%s read in %.1f s", need.rows, "" if comm.size == 1 else " per rank", seconds)
    else:
        log.info(
            "states of %d rows%s computed once and cached in %.1f s (%s)",
            *(need.rows, "" if comm.size == 1 else " per rank", seconds, reservoir.kernel),
        )
    return train, judged


def _need(config: Config, comm: Communicator, reservoir: StateSource, shards: ShardSet, rows: int) -> _Need:
    share = machine_memory() // ranks_on_host(comm)
    return _Need(
        rows,
        reservoir.width,
        cache_dtype(config, reservoir),
        rows * sample_bytes(shards),
        config.states.memory_mib * MIB or share,
        config.states.disk_mib * MIB,
    )


def _room(config: Config, comm: Communicator, reservoir: StateSource, need: _Need) -> tuple[torch.Tensor | None, bool]:
    """Return where this rank's states are kept, None where they are not, and whether that is elsewhere than in memory.

    Collective. Tells what was chosen, and why.
    """
    beyond = _first(comm, need.beyond_memory())
    if not beyond:
        limit = "may be used" if comm.size == 1 else "a rank may use"
        log.info("states kept in memory: %s of the %d MiB that %s", _mib(need.states), need.memory // MIB, limit)
        return torch.empty((need.rows, need.width), dtype=need.dtype, device=reservoir.device), False
    room, reason = need.file()
    no_file = _first(comm, reason)
    if not no_file:
        log.info("states kept in a file in %s: %s", tempfile.gettempdir(), beyond)
        return room, True
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
    log.warning("states computed anew in every step: %s; %s", beyond, no_file)
    return None, True


def _first(comm: Communicator, reason: str) -> str:
    """Return the reason of the lowest rank that has one, with its number where it is not 0. Collective."""
    found = [(rank, text) for rank, text in enumerate(comm.allgather(reason)) if text]
    rank, text = found[0] if found else (0, "")
    return f"rank {rank}: {text}" if rank else text


def _mib(size: int) -> str:
    return f"{math.ceil(size / MIB)} MiB"
