"""Estimates of the work of a training, by which a CPU or a GPU is chosen.

Multiply-adds of the large products are counted, as in `rcdp_hpc.training.threads`, and steps that follow one another.
The estimates need neither torch nor the matrices of a reservoir.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import readout_choice
from rcdp_hpc.networks.shapes import convolution_map, sequence_of_map
from rcdp_hpc.reservoir.kept_steps import values_kept
from rcdp_hpc.reservoir.reductions import feature_shape
from rcdp_hpc.training.checks import BASELINE_WIDTH
from rcdp_hpc.training.threads import DECOMPOSITION, autoencoder_products, network_products, state_products

# Forward pass, gradients of the values, and gradients of the weights.
PASSES = 3
# Sums and solutions of ridge regression are computed in float64, with half as many multiply-adds a second.
DOUBLE = 2
# Copies of the sums X'X while ridge regression is solved: the sums, a shifted copy, its factor, and one more.
SUMS, DOUBLE_BYTES = 4, 8
# Multiply-adds a second of a thread, with AVX2 or wider registers: half of what large products reach (`SMALL_ONCE` of
# rcdp_hpc.training.threads), because a step has small ones as well. More threads gain little in a step.
THREAD_RATE = 30e9
MOST_THREADS = 16
# Seconds of a step on a CPU without its products: about 300 calls of torch.
CPU_STEP = 1.5e-3
# The same of a step on a GPU, recorded and as it is; seconds of a candidate of the search; multiply-adds a second of
# the smaller cards of data centres.
GPU_STEP, UNRECORDED_STEP = 1e-3, 10e-3
GPU_CANDIDATE = 10e-3
GPU_RATE = 10e12
# Seconds until a GPU computes: its context, its libraries, and the recording of a step.
GPU_START = 5.0


@dataclass(frozen=True)
class Work:
    """The work of one rank.

    Attributes
    ----------
    products : float
        Multiply-adds.
    steps : int
        Steps of a training that follow one another.
    candidates : int
        Candidates of a search that follow one another.
    gpu_step : float
        Seconds of a step on a GPU without its products.
    """

    products: float
    steps: int = 0
    candidates: int = 0
    gpu_step: float = GPU_STEP

    def cpu_seconds(self, threads: int) -> float:
        """Return the estimated seconds on this number of threads."""
        return self.products / (THREAD_RATE * min(threads, MOST_THREADS)) + self.steps * CPU_STEP

    def gpu_seconds(self, sharing: int = 1) -> float:
        """Return the estimated seconds on a GPU, including its start, that this number of ranks share."""
        busy = self.products / GPU_RATE + self.steps * self.gpu_step + self.candidates * GPU_CANDIDATE
        return GPU_START + sharing * busy


def training_work(config: Config, shape: Sequence[int], rows: int, ranks: int) -> Work | None:
    """Return the work of a rank that trains or solves the readout; None for networks whose size is not known here.

    Parameters
    ----------
    config : Config
        With the values of the best candidate.
    shape : sequence of int
        Shape of a sample; the longest for series of different lengths.
    rows, ranks : int
        Training rows and ranks.
    """
    training = config.training
    products = _trained_extractor(config, shape) if config.extractor.trained else None
    if config.extractor.makes_sequences and products is None:
        return None
    once, row = 0.0, products or 0.0
    if products is None:
        width, once = state_products(config, tuple(shape), rows)
        row = readout_products(config, width, shape)
        if not config.readout.trained or training.baseline:
            once += DOUBLE * solution_products(config, width, rows)
        once += autoencoder_products(config, width, rows)
    if not config.readout.trained:
        return Work(once / ranks)
    batch = min(rows, training.global_batch or training.batch * ranks)
    steps = training.epochs * math.ceil(rows / (batch * training.accumulate))
    gpu_step = UNRECORDED_STEP if training.graph == "off" else GPU_STEP
    return Work((once + PASSES * training.epochs * rows * row) / ranks, steps, gpu_step=gpu_step)


def solution_products(config: Config, width: int, rows: int) -> float:
    """Return the multiply-adds of the sums and solutions of ridge regression."""
    least = min(width, rows)
    penalties = len(config.readout.ridge_penalties) if not config.readout.trained else 1
    return least * (width * rows / 2 + DECOMPOSITION * penalties * least * least / 6)


def readout_products(config: Config, width: int, shape: Sequence[int]) -> float:
    """Return the multiply-adds of the readout for one row of `width` features."""
    readout = config.readout
    if not readout_choice(readout.kind).stepwise:
        return network_products(config, width)
    steps = values_kept(config.reservoir, shape[0])
    # The four gates of an LSTM; other layers that read step by step are not much smaller.
    gates = 4 * readout.hidden * (readout.outputs + 2 * readout.hidden * readout.layers)
    return width * readout.outputs + steps * gates


def _trained_extractor(config: Config, shape: Sequence[int]) -> float | None:
    """Return the multiply-adds of convolutions, reservoir and readout for one image; None for classes of the user."""
    extractor, reservoir = config.extractor, config.reservoir
    if extractor.kind != "convolution" or len(shape) < 2:
        return None
    height, width = shape[0], shape[1]
    inputs = shape[2] if len(shape) == 3 else 1
    if extractor.whitening:
        inputs = 2 * inputs * extractor.whitening**2
    products = 0.0
    for outputs in extractor.channels:
        products += 9 * height * width * inputs * outputs
        height, width = height // 2, width // 2
        products += 9 * height * width * outputs * outputs * extractor.residual
        inputs = outputs
    rows, columns = convolution_map(shape, extractor.channels, extractor.whitening)
    steps, features = sequence_of_map(extractor.sequence, extractor.channels[-1], rows, columns)
    if reservoir.kind == "none":
        return products + network_products(config, steps * features)
    kept = feature_shape(reservoir, steps)
    products += steps * kept.parts * reservoir.nodes * (reservoir.nodes + features)
    return products + network_products(config, kept.features)


def network_bytes(config: Config, shape: Sequence[int], width: int) -> int | None:
    """Return an upper estimate of the bytes that a training needs besides its rows; None for a network of the user.

    Parameters
    ----------
    config : Config
    shape : sequence of int
        Shape of a sample.
    width : int
        Features of a row.
    """
    rows = max(config.training.batch, config.training.global_batch)
    if not config.extractor.trained:
        solved = config.training.baseline and width <= BASELINE_WIDTH
        return DOUBLE_BYTES * SUMS * width * width * solved + readout_bytes(config, width, shape[0], rows)
    if config.extractor.kind != "convolution":
        return None
    maps = 0
    height, columns = shape[0], shape[1]
    for channels in config.extractor.channels:
        # The product, its norm and its activation before the pooling; both convolutions of the stage after it.
        maps += channels * height * columns
        height, columns = height // 2, columns // 2
        maps += 8 * channels * height * columns
    steps, features = sequence_of_map(config.extractor.sequence, config.extractor.channels[-1], height, columns)
    nodes = 0 if config.reservoir.kind == "none" else config.reservoir.nodes
    values = maps + steps * (features + 4 * nodes)
    return 2 * 4 * rows * values + readout_bytes(config, (nodes or steps * features) * 2, steps, rows)


def readout_bytes(config: Config, width: int, steps: int, rows: int) -> int:
    """Return an upper estimate of the bytes that the training of a readout needs, without the states of its rows.

    It counts weights (of the four gates of an LSTM), their gradients and two moments of Adam in float32, with as much
    again for temporary values, and the values of every layer for a batch with their gradients.

    Parameters
    ----------
    config : Config
    width : int
        Features of a row.
    steps : int
        Steps of the longest sequence.
    rows : int
        Rows of a rank.
    """
    readout = config.readout
    layers = readout.hidden * (readout.outputs + 2 * readout.hidden * readout.layers)
    weights = width * readout.outputs + 4 * layers
    read = values_kept(config.reservoir, steps) if readout_choice(readout.kind).stepwise else 1
    values = width + read * (readout.outputs + 4 * readout.hidden * (readout.layers + 1))
    return 2 * 16 * weights + 2 * 4 * min(config.training.batch, rows) * values
