"""Learning the part of an extractor that is fixed before the training, to the same bits for any number of ranks."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.fields import Fields, refuse_other_shapes
from rcdp_hpc.networks.learned_source import FixedSource, LearnedSource, learned_of, load_learned
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.solve.frozen_copy import frozen_state_of_run

log = logging.getLogger(__name__)

# Rows are read in this number of runs: the rows keep the proportions of the classes, and few shards are opened.
RUNS = 16


@dataclass(frozen=True)
class ShardSamples:
    """Training samples in shards that a seed chooses; a `rcdp_hpc.networks.learned_source.TrainingSamples`.

    Attributes
    ----------
    shards : ShardReader
    seed : int
    """

    shards: ShardReader
    seed: int

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.shards.sample_shape

    def rows(self, count: int) -> NDArray[np.float32]:
        """Return `sampled_rows`."""
        return sampled_rows(self.shards, count, self.seed)

    def originals(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
        """Return `sampled_originals`."""
        return sampled_originals(self.shards, count, self.seed)

    def labelled(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the samples of `sampled_originals`, and their class indices."""
        columns = _original_columns(self.shards, count, self.seed, ["x", "y"])
        return columns["x"], columns["y"].astype(np.int64)


def learn_extractor(
    config: Config, comm: Communicator, run: RunDirectory, shards: ShardReader, source: StateSource
) -> dict[str, torch.Tensor]:
    """Learn the part of a source that is fixed before the training, or load it from the run directory. Collective.

    Rank 0 learns it with one thread from training rows that the seed chooses, and broadcasts it: its bits depend
    neither on the number of ranks nor on the number of threads.

    Returns
    -------
    dict of str to torch.Tensor
        The state of the fixed part, for the model file; empty if the source has none.

    Raises
    ------
    InputError
        If training samples contain values that are not finite.
    DataDamagedError
        If the run's copy of another model's extractor is damaged.
    """
    if not isinstance(source, FixedSource):
        return {}

    def fixed() -> dict[str, np.ndarray]:
        if isinstance(source, LearnedSource):
            state = _learned_state(config, run, shards, source)
        else:
            state = frozen_state_of_run(config, run)
        return {name: value.numpy() for name, value in state.items()}

    state = run_on_root(comm, fixed)
    load_learned(source, {name: torch.from_numpy(value) for name, value in state.items()})
    return learned_of(source)


def _learned_state(
    config: Config, run: RunDirectory, shards: ShardReader, source: LearnedSource
) -> dict[str, torch.Tensor]:
    path = run.train / source.file_name
    made_with = _made_with(config, shards, source)
    saved = _saved_state(path, made_with, source)
    if saved is not None:
        return saved
    started = time.perf_counter()
    # K-means depends on every rounding, and the order of sums on the number of threads.
    with limit_threads(1):
        state, description = source.learn(ShardSamples(shards, config.run.seed), config.run.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, {"made_with": made_with, path.stem: state})
    log.info("%s in %.1f s", description, time.perf_counter() - started)
    return state


def _made_with(config: Config, shards: ShardReader, source: LearnedSource) -> str:
    """Return the settings and data that determine the learned part, as text."""
    extractor = config.extractor.model_dump()
    return json.dumps(
        {"extractor": extractor, "seed": config.run.seed, "shards": shards.digest, **source.learned_from()},
        sort_keys=True,
    )


def _saved_state(path: Path, made_with: str, source: LearnedSource) -> dict[str, torch.Tensor] | None:
    """Return the state in a file; None if there is no file, its settings differ, or it is damaged."""
    if not os.path.lexists(path):
        return None
    try:
        fields = Fields(str(path), checkpoint.load(path), "")
        same, state = fields.text("made_with") == made_with, dict(fields.tensors(path.stem))
        if same:
            refuse_other_shapes(str(path), state, source.learned.state_dict(), "")
    except DataDamagedError as error:
        log.warning("%s Learning the %s again, to the same bits.", error, source.learned_name)
        return None
    return state if same else None


def sampled_rows(shards: ShardReader, count: int, seed: int) -> np.ndarray:
    """Return about `count` training samples, in runs of consecutive rows that the seed chooses; all if few."""
    return np.concatenate([shards.read("train", *bounds).x for bounds in _runs(shards.rows("train"), count, seed)])


def sampled_originals(
    shards: ShardReader, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
    """Return about `count` training samples that are not synthetic, and their lengths; all if they are few."""
    columns = _original_columns(shards, count, seed, ["x", *(["length"] if shards.layout.has_lengths else [])])
    return columns["x"], columns.get("length")


def _original_columns(shards: ShardReader, count: int, seed: int, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return columns of about `count` training samples that are not synthetic; of all if they are few."""
    synthetic = shards.columns("train", 0, shards.rows("train"), ["synthetic"])["synthetic"]
    originals = np.flatnonzero(~synthetic.astype(bool))
    parts = []
    for start, stop in _runs(len(originals), count, seed):
        first = int(originals[start])
        columns = shards.columns("train", first, int(originals[stop - 1]) + 1, names)
        parts.append({name: column[originals[start:stop] - first] for name, column in columns.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _runs(total: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Return runs (start, stop) of `total` rows with about `count` rows together; all rows if they are few."""
    if count >= total:
        return [(0, total)]
    length = math.ceil(count / RUNS)
    starts = np.random.default_rng([seed, total]).choice(total // length, min(RUNS, total // length), replace=False)
    return [(start, start + length) for start in (np.sort(starts) * length).tolist()]
