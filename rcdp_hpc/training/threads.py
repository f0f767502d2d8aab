"""The number of threads of a rank if the configuration does not set it (``training.threads = 0``)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import pairwise

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import readout_choice
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.reservoir.kept_steps import prepared_features
from rcdp_hpc.reservoir.reductions import feature_shape
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.threads import threads_per_rank

log = logging.getLogger(__name__)

# Multiply-adds of a step below which a second thread gains almost nothing (benchmarks/training_threads.py), because
# threads wait for one another at each layer. Two threads took 0.9 of the time of one with this number, and 0.7 with six
# times as many.
SMALL_STEP = 20e6
# Multiply-adds of work that is done once, in large products; one thread needs about a third of a second.
SMALL_ONCE = 20e9
# Multiply-adds of the ridge readout's factorisations, divided by the cube of the features.
DECOMPOSITION = 2


def threads_of_rank(config: Config, comm: Communicator, shards: ShardReader) -> int:
    """Return the threads of each rank: as configured, one for small work, or the rank's share of the cores. Collective.

    The rule depends on configuration and data only, so that the result is the same for any number of ranks.
    """
    if config.training.threads:
        return config.training.threads
    share = threads_per_rank(comm)
    if share == 1 or not agree(comm, lambda: is_small(config, shards.sample_shape, shards.rows("train"))):
        return share
    log.info("one thread per rank: the work is small (training.threads = %d would use all cores)", share)
    return 1


def threads_of_test(config: Config, comm: Communicator, shards: ShardReader) -> int:
    """Return the threads of each rank for a pass over the test rows, by the rule of `threads_of_rank`. Collective."""
    if config.training.threads:
        return config.training.threads
    share = threads_per_rank(comm)
    small = share == 1 or agree(comm, lambda: is_small_pass(config, shards.sample_shape, shards.rows("test")))
    return 1 if small else share


def is_small_pass(config: Config, shape: Sequence[int], rows: int) -> bool:
    """Return whether one pass over the rows is too little work for several threads. Parameters as in `is_small`."""
    if not readout_choice(config.readout.kind).dense or config.extractor.makes_sequences:
        return False
    width, states = state_products(config, shape, rows)
    return states + rows * network_products(config, width) <= SMALL_ONCE


def network_products(config: Config, width: int) -> float:
    """Return the multiply-adds of the layers of eq. 10 and 11 for one row of `width` features."""
    readout = config.readout
    widths = [width, readout.outputs, *[readout.hidden] * (readout.layers + 1)]
    return math.fsum(one * other for one, other in pairwise(widths))


def state_products(config: Config, shape: Sequence[int], rows: int) -> tuple[int, float]:
    """Return the number of features of a row, and the multiply-adds that compute the states of all rows.

    Convolution kernels always use one thread, so their multiply-adds are not counted.
    """
    reservoir = config.reservoir
    steps, features = Sequencer.of(reservoir).shape(tuple(shape))
    kernels = extractor_of(config, shape).joined_features
    if reservoir.kind == "none":
        return kernels or steps * prepared_features(reservoir, features), 0.0
    kept = feature_shape(reservoir, steps)
    inputs = 2 * reservoir.memory_units if reservoir.kind == "diagonal" else reservoir.nodes + features
    return kernels + kept.features, float(rows * steps * kept.parts * reservoir.nodes * inputs)


def autoencoder_products(config: Config, width: int, rows: int) -> float:
    """Return the multiply-adds that solve the layers of an extreme learning machine; 0 for other readouts."""
    if not config.readout.autoencodes:
        return 0.0
    units, layers = config.readout.hidden, config.readout.layers
    inputs = [width, *[units] * (layers - 1)]
    # X A, H'X and X beta' of each layer, H'H, and the decompositions.
    return float(sum(rows * units * (3 * one + units / 2) + units * units * (one + units / 3) for one in inputs))


def is_small(config: Config, shape: Sequence[int], rows: int) -> bool:
    """Return whether a training is too small for several threads.

    Parameters
    ----------
    config : Config
    shape : sequence of int
        Shape of a sample; the longest for series of different lengths.
    rows : int
        Training rows over all ranks.
    """
    if not readout_choice(config.readout.kind).dense or config.extractor.makes_sequences:
        return False
    width, once = state_products(config, shape, rows)
    if not config.readout.trained or config.training.baseline:
        # If there are fewer rows than features, the matrix of products between rows is decomposed.
        least = min(width, rows)
        once += least * (width * rows + DECOMPOSITION * least * least)
    once += autoencoder_products(config, width, rows)
    step = config.training.batch * network_products(config, width)
    return once <= SMALL_ONCE and (not config.readout.trained or step <= SMALL_STEP)
