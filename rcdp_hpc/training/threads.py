"""How many threads a rank trains with, if the configuration leaves it open (``training.threads = 0``)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import pairwise

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import readout_choice
from rcdp_hpc.data.shards.reader import ShardSet
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.reservoir.kept_steps import prepared_features
from rcdp_hpc.reservoir.reductions import feature_shape
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.threads import threads_per_rank

log = logging.getLogger(__name__)

# Multiply-adds below which a second thread brings next to nothing (benchmarks/training_threads.py). Threads wait for
# one another at each layer of a step: with this many, two took 0.9 of the time of one, and with six times as many 0.7.
SMALL_STEP = 20e6
# What is computed once, in large products, takes a third of a second on one thread.
SMALL_ONCE = 20e9
# The ridge readout's factorisations for its penalties, by multiply-adds: this times the cube of the features.
DECOMPOSITION = 2


def threads_of_rank(config: Config, comm: Communicator, shards: ShardSet) -> int:
    """Return the threads of each rank: as configured, one for small work, or the rank's share of the cores. Collective.

    The rule asks for configuration and data alone, so that it answers the same for any number of ranks.
    """
    if config.training.threads:
        return config.training.threads
    share = threads_per_rank(comm)
    if share == 1 or not agree(comm, lambda: is_small(config, shards.sample_shape, shards.rows("train"))):
        return share
    log.info("one thread per rank: the work is small (training.threads = %d would take all cores)", share)
    return 1


def threads_of_test(config: Config, comm: Communicator, shards: ShardSet) -> int:
    """Return the threads of each rank for a pass over the test rows, by the rule of `threads_of_rank`. Collective."""
    if config.training.threads:
        return config.training.threads
    share = threads_per_rank(comm)
    small = share == 1 or agree(comm, lambda: is_small_pass(config, shards.sample_shape, shards.rows("test")))
    return 1 if small else share


def is_small_pass(config: Config, shape: Sequence[int], rows: int) -> bool:
    """Tell whether reading rows once is too little work to gain by several threads. Parameters as `is_small`."""
    if not readout_choice(config.readout.kind).dense or config.extractor.makes_sequences:
        return False
    width, states = _states(config, shape, rows)
    layers = [width, config.readout.outputs, config.readout.hidden, config.readout.hidden]
    return states + rows * math.fsum(one * other for one, other in pairwise(layers)) <= SMALL_ONCE


def _states(config: Config, shape: Sequence[int], rows: int) -> tuple[int, float]:
    """Return the features of a row's states, and the multiply-adds of all rows' states.

    Convolution kernels take one thread whatever their number, and so count by their features alone.
    """
    reservoir = config.reservoir
    steps, features = Sequencer.of(reservoir).shape(tuple(shape))
    kernels = extractor_of(config, shape).joined_features
    if reservoir.kind == "none":
        return kernels or steps * prepared_features(reservoir, features), 0.0
    kept = feature_shape(reservoir, steps)
    inputs = 2 * reservoir.memory_units if reservoir.kind == "diagonal" else reservoir.nodes + features
    return kernels + kept.features, float(rows * steps * kept.parts * reservoir.nodes * inputs)


def is_small(config: Config, shape: Sequence[int], rows: int) -> bool:
    """Tell whether a training is too small to gain by several threads.

    Parameters
    ----------
    config : Config
    shape : sequence of int
        Of a sample; of sequences of unequal length, the longest.
    rows : int
        Training rows, of all ranks.
    """
    if not readout_choice(config.readout.kind).dense or config.extractor.makes_sequences:
        return False
    width, once = _states(config, shape, rows)
    if not config.readout.trained or config.training.baseline:
        # Of fewer rows than features, the products of rows with rows are decomposed.
        least = min(width, rows)
        once += least * (width * rows + DECOMPOSITION * least * least)
    layers = [width, config.readout.outputs, config.readout.hidden, config.readout.hidden]
    step = config.training.batch * math.fsum(one * other for one, other in pairwise(layers))
    return once <= SMALL_ONCE and (not config.readout.trained or step <= SMALL_STEP)
