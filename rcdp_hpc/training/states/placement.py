"""The place of a rank's states: memory if they fit, otherwise a file, otherwise none (they are computed again).

If a GPU computes, its own memory is the first place, and that of its host the second.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed
from rcdp_hpc.runtime.device import CPU
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.ram import MIB
from rcdp_hpc.training.states.cache import CachedStates, cache_dtype, cache_states
from rcdp_hpc.training.states.host_states import HostStates
from rcdp_hpc.training.states.memory import Memories
from rcdp_hpc.training.states.need import Need, mib, unless_out_of_memory
from rcdp_hpc.training.states.recompute import read_samples, sample_bytes

log = logging.getLogger(__name__)

Ranges = Sequence[tuple[int, int]]


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
    parts: list[tuple[str, Ranges, slice]] = [
        ("train", partitions, slice(training)),
        ("validation", [validation], slice(training, None)),
    ]
    started = time.perf_counter()

    def stored(room: _Room | None) -> list[CachedStates]:
        with Progress("states", need.rows, enabled=comm.is_root and config.run.progress) as progress:
            return [_states_of(reservoir, shards, *part, progress, room, need.dtype) for part in parts]

    room = _room(config, comm, reservoir, need)
    found = None
    if room is not None and need.memories.gpu is not None and not room.is_slow:
        found, no_room = agree(comm, lambda: unless_out_of_memory(partial(stored, room)))
        no_room = _first(comm, no_room)
        if no_room:
            log.warning(
                "the GPU has no memory to compute the states next to them (%s): the next place is used", no_room
            )
            found = room = None
            torch.cuda.empty_cache()
            room = _room(config, comm, reservoir, need, no_room)
    train_states, validation_states = found or agree(comm, lambda: stored(room))
    seconds = time.perf_counter() - started
    if config.extractor.trained or room is None:
        log.info("%d samples%s read in %.1f s", need.rows, "" if comm.size == 1 else " per rank", seconds)
    else:
        log.info(
            "states of %d rows%s computed once and cached in %.1f s (%s)",
            *(need.rows, "" if comm.size == 1 else " per rank", seconds, reservoir.kernel),
        )
    return train_states, validation_states


def _states_of(
    reservoir: StateSource,
    shards: ShardReader,
    split: str,
    ranges: Ranges,
    rows: slice,
    progress: Progress,
    room: _Room | None,
    dtype: torch.dtype,
) -> CachedStates:
    """Return the states of ranges of a split, in `rows` of the room; of samples, if there is no room."""
    if room is None:
        states, labels = read_samples(reservoir, shards, split, ranges, progress, dtype)
        return CachedStates(states, labels, ranges[0][0], slow=True)
    cached = cache_states(reservoir, shards, split, ranges, progress, room.tensor[rows])
    return replace(cached, states=_on_device(cached.stored, reservoir.device), slow=room.is_slow)


def _on_device(states: torch.Tensor, where: torch.device) -> torch.Tensor | HostStates:
    """Return stored states as rows on a device, which are copied on access if they are stored elsewhere."""
    return states if states.device == where else HostStates(states, where)


def _need(config: Config, comm: Communicator, reservoir: StateSource, shards: ShardReader, rows: int) -> Need:
    memories = Memories.of_rank(config, comm, reservoir.device, shards.sample_shape, reservoir.width)
    return Need(rows, reservoir.width, cache_dtype(config, reservoir), rows * sample_bytes(shards), memories)


@dataclass(frozen=True)
class _Room:
    """A tensor for the states of this rank, and whether access to them takes long."""

    tensor: torch.Tensor
    is_slow: bool


def _room(config: Config, comm: Communicator, reservoir: StateSource, need: Need, not_on_gpu: str = "") -> _Room | None:
    """Return the room for this rank's states, None if they are not stored. Collective.

    The log has the choice and its reason. `not_on_gpu` is why they are not stored on the GPU, if that is known.
    """
    beyond = not_on_gpu
    if need.memories.gpu is not None and not not_on_gpu:
        tensor, beyond = _in_memory(comm, need.beyond_gpu(), partial(need.on_device, reservoir.device))
        if tensor is not None:
            log.info("states stored on %s: %s", need.memories.gpu_name, _of_limit(comm, need, need.memories.gpu))
            return _Room(tensor, False)
    copied = need.memories.gpu is not None
    make = need.on_host if copied else partial(need.on_device, CPU)
    tensor, beyond_host = _in_memory(comm, need.beyond_memory(), make)
    if tensor is not None and copied:
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


def _in_memory(
    comm: Communicator, beyond: str, make: Callable[[], tuple[torch.Tensor | None, str]]
) -> tuple[torch.Tensor | None, str]:
    """Return a tensor for the states, or None on all ranks and the reason of the first. Collective."""
    reason = _first(comm, beyond)
    if reason:
        return None, reason
    tensor, missing = make()
    reason = _first(comm, missing)
    if reason:
        log.warning("%s: the next place is used", reason)
        return None, reason
    return tensor, ""


def _of_limit(comm: Communicator, need: Need, limit: int) -> str:
    return f"{mib(need.states)} of the {limit // MIB} MiB that {'may be used' if comm.size == 1 else 'a rank may use'}"


def _first(comm: Communicator, reason: str) -> str:
    """Return the reason of the lowest rank that has one, with the number of a rank other than 0. Collective."""
    reasons = [(rank, text) for rank, text in enumerate(comm.allgather(reason)) if text]
    rank, text = reasons[0] if reasons else (0, "")
    return f"rank {rank}: {text}" if rank else text
