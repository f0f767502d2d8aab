"""Learning of a frozen extractor before the training: a dictionary of patches, or the biases of kernels."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.fields import Fields, refuse_other_shapes
from rcdp_hpc.networks import kernel_learning
from rcdp_hpc.networks.dictionary import DictionarySource, PatchDictionary
from rcdp_hpc.networks.dictionary_learning import learn
from rcdp_hpc.networks.kernels import KernelSource, RandomKernels
from rcdp_hpc.networks.learned_source import LearnedSource, learned_of
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads

log = logging.getLogger(__name__)

PATCHES_OF_A_ROW = 20
# Rows are read in this many runs of consecutive rows. Each run has the class proportions, and few shards are opened.
RUNS = 16
# Training series from which the biases of kernels are learned: SERIES of them, or fewer if they have more values than
# SERIES_VALUES, but at least FEWEST_SERIES.
SERIES, FEWEST_SERIES, SERIES_VALUES = 512, 16, 2**22


def learn_extractor(
    config: Config, comm: Communicator, run: RunDirectory, shards: ShardSet, source: StateSource
) -> dict[str, torch.Tensor]:
    """Learn the parameters of a frozen extractor, or read them from a file in ``RUN/train``. Collective.

    Rank 0 learns them from training rows that the seed selects, with one thread, and sends them to all ranks. The bits
    therefore do not depend on the number of ranks or threads. Other sources have nothing to learn.

    Returns
    -------
    dict
        The parameters, for the model file; empty for other sources.

    Raises
    ------
    InputError
        If training samples have values that are not finite.
    """
    if not isinstance(source, LearnedSource):
        return {}

    def learned() -> dict[str, np.ndarray]:
        state = _dictionary(config, run, shards) if isinstance(source, DictionarySource) else None
        if isinstance(source, KernelSource):
            state = _kernels(config, run, shards, source)
        return {name: value.numpy() for name, value in (state or {}).items()}

    parameters = run_on_root(comm, learned)
    source.learned.load_state_dict({name: torch.from_numpy(value) for name, value in parameters.items()})
    return learned_of(source)


def _dictionary(config: Config, run: RunDirectory, shards: ShardSet) -> dict[str, torch.Tensor]:
    extractor, path = config.extractor, run.train / "dictionary.pt"
    origin = _origin(config, shards)
    dictionary = PatchDictionary(extractor, shards.sample_shape)
    earlier = _read(path, origin, "dictionary", dictionary.state_dict())
    if earlier is not None:
        return earlier
    started = time.perf_counter()
    samples = sampled_rows(shards, math.ceil(extractor.patches / PATCHES_OF_A_ROW), config.run.seed)
    with limit_threads(1):
        learn(dictionary, torch.from_numpy(samples), config.run.seed)
    state = dictionary.state_dict()
    _write(path, origin, "dictionary", state)
    log.info(
        "dictionary of %d atoms learned from %d patches of %d training rows in %.1f s",
        *(extractor.atoms, extractor.patches, len(samples), time.perf_counter() - started),
    )
    return state


def _kernels(config: Config, run: RunDirectory, shards: ShardSet, source: KernelSource) -> dict[str, torch.Tensor]:
    path = run.train / "kernels.pt"
    origin = _origin(config, shards, sequence=asdict(source.sequencer), channels_seed=config.reservoir.seed)
    earlier = _read(path, origin, "kernels", source.learned.state_dict())
    if earlier is not None:
        return earlier
    started = time.perf_counter()
    steps, channels = source.sequencer.shape(shards.sample_shape)
    most = min(SERIES, max(FEWEST_SERIES, SERIES_VALUES // (steps * max(1, channels // 4))))
    samples, sample_lengths = sampled_originals(shards, most, config.run.seed)
    lengths = None if sample_lengths is None else source.sequencer.lengths(sample_lengths)
    kernels = RandomKernels(config.extractor, channels, config.reservoir.seed)
    with limit_threads(1):
        series = torch.as_tensor(source.sequencer.sequences(samples), dtype=torch.float32)
        kernel_learning.learn(kernels, series, lengths, config.run.seed)
    state = kernels.state_dict()
    _write(path, origin, "kernels", state)
    log.info(
        "biases of %d convolution kernel features (%s) learned from %d training series in %.1f s",
        *(kernels.features, ", ".join(kernels.inputs), len(samples), time.perf_counter() - started),
    )
    return state


def _origin(config: Config, shards: ShardSet, **others: Any) -> str:
    """Return all that decides the learned parameters, as text."""
    extractor = config.extractor.model_dump()
    return json.dumps(
        {"extractor": extractor, "seed": config.run.seed, "shards": shards.digest, **others}, sort_keys=True
    )


def _write(path: Path, origin: str, name: str, state: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, {"made_with": origin, name: state})


def _read(path: Path, origin: str, name: str, expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """Return the parameters in a file; None if there is no file, or if it has another origin or is damaged.

    `expected` has the names and shapes of the parameters.
    """
    if not os.path.lexists(path):
        return None
    try:
        fields = Fields(str(path), checkpoint.load(path), "")
        same, state = fields.text("made_with") == origin, dict(fields.tensors(name))
        if same:
            refuse_other_shapes(str(path), state, expected, "")
    except DataDamagedError as error:
        again = "dictionary is" if name == "dictionary" else "biases of the kernels are"
        log.warning("%s The %s learned again, with the same bits.", error, again)
        return None
    return state if same else None


def sampled_rows(shards: ShardSet, count: int, seed: int) -> np.ndarray:
    """Return about `count` training samples, in runs of consecutive rows that the seed selects; all if they are few."""
    return np.concatenate([shards.read("train", *bounds).x for bounds in _runs(shards.rows("train"), count, seed)])


def sampled_originals(shards: ShardSet, count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
    """Return about `count` training samples that are not synthetic, and their lengths; all samples if they are few."""
    synthetic = shards.columns("train", 0, shards.rows("train"), ["synthetic"])["synthetic"]
    originals = np.flatnonzero(~synthetic.astype(bool))
    names = ["x", *(["length"] if shards.layout.has_lengths else [])]
    parts = []
    for start, stop in _runs(len(originals), count, seed):
        first = int(originals[start])
        columns = shards.columns("train", first, int(originals[stop - 1]) + 1, names)
        parts.append({name: column[originals[start:stop] - first] for name, column in columns.items()})
    joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return joined["x"], joined.get("length")


def _runs(total: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Return runs (start, stop) of `total` rows, with about `count` rows in all; one run if all rows are few."""
    if count >= total:
        return [(0, total)]
    length = math.ceil(count / RUNS)
    starts = np.random.default_rng([seed, total]).choice(total // length, min(RUNS, total // length), replace=False)
    return [(start, start + length) for start in (np.sort(starts) * length).tolist()]
