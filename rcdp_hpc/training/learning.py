"""What is learned before the training: the dictionary of the frozen extractor, the same on any number of ranks."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import torch

from rcdp_hpc.config import Config
from rcdp_hpc.data.reading import ShardSet
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.reservoir.passed import StateSource
from rcdp_hpc.runtime.collective import run_on_root
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training import checkpoint
from rcdp_hpc.training.networks.dictionary import DictionarySource, PatchDictionary, learned_of
from rcdp_hpc.training.networks.dictionary_learning import learn

log = logging.getLogger(__name__)

PATCHES_OF_A_ROW = 20
# Rows are read in so many runs: each keeps the proportions of the classes, and few shards have to be opened.
RUNS = 16


def learn_extractor(
    config: Config, comm: Communicator, run: RunDirectory, shards: ShardSet, source: StateSource
) -> dict[str, torch.Tensor]:
    """Learn the dictionary of a `DictionarySource`, or take the one in ``RUN/train/dictionary.pt``. Collective.

    Rank 0 learns it from training rows that the seed chooses, with one thread, and gives it to all: its bits depend
    on neither the number of ranks nor their threads. For other sources nothing is done.

    Returns
    -------
    dict
        What a model file has to hold of it; empty for other sources.

    Raises
    ------
    InputError
        If training samples hold values that are not finite.
    """
    if not isinstance(source, DictionarySource):
        return {}

    def learned() -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in _learned(config, run, shards).items()}

    found = run_on_root(comm, learned)
    source.dictionary.load_state_dict({name: torch.from_numpy(value) for name, value in found.items()})
    return learned_of(source)


def _learned(config: Config, run: RunDirectory, shards: ShardSet) -> dict[str, torch.Tensor]:
    extractor, path = config.training.extractor, run.train / "dictionary.pt"
    made_with = json.dumps(
        {"extractor": extractor.model_dump(), "seed": config.run.seed, "shards": shards.digest}, sort_keys=True
    )
    kept = _kept(path, made_with)
    if kept is not None:
        return kept
    started = time.perf_counter()
    samples = sampled_rows(shards, -(-extractor.patches // PATCHES_OF_A_ROW), config.run.seed)
    dictionary = PatchDictionary(extractor, shards.sample_shape)
    with limit_threads(1):
        learn(dictionary, torch.from_numpy(samples), config.run.seed)
    state = dictionary.state_dict()
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, {"made_with": made_with, "dictionary": state})
    log.info(
        "dictionary of %d atoms learned from %d patches of %d training rows in %.1f s",
        *(extractor.atoms, extractor.patches, len(samples), time.perf_counter() - started),
    )
    return state


def _kept(path: Path, made_with: str) -> dict[str, torch.Tensor] | None:
    """Return the dictionary in a file; None where there is none, one made with other settings, or a damaged one."""
    if not path.exists():
        return None
    try:
        content = checkpoint.load(path)
    except DataDamagedError as error:
        log.warning("%s The dictionary is learned again, to the same bits.", error)
        return None
    return dict(content["dictionary"]) if content["made_with"] == made_with else None


def sampled_rows(shards: ShardSet, count: int, seed: int) -> np.ndarray:
    """Return about `count` training samples, in runs of consecutive rows that the seed chooses; all where few."""
    total = shards.rows("train")
    if count >= total:
        return shards.read("train", 0, total).x
    length = -(-count // RUNS)
    starts = np.random.default_rng([seed, total]).choice(total // length, min(RUNS, total // length), replace=False)
    return np.concatenate([shards.read("train", start, start + length).x for start in np.sort(starts) * length])
