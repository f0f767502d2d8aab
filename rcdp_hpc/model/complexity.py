"""The complexity of a trained model: its numbers, operations, bytes and time for a sample."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.model.flops import Flops, add_reservoir, counted
from rcdp_hpc.model.trained_model import FEWEST_ROWS, TrainedModel
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.threads import limit_threads

# The time of a block of rows is measured this often, but not for longer than this.
REPEATS = 7
MOST_SECONDS = 1.0
# Numbers of batch normalisations that prediction does not read.
UNREAD = "largest_batch"


@dataclass(frozen=True)
class Complexity:
    """The complexity of a model.

    Attributes
    ----------
    trained : int
        Weights and biases that the training has found, by gradient steps or in closed form.
    nonzero : int
        Numbers other than 0 that the prediction reads from the model file: of the weights and biases, of a learned
        extractor, and of the means and deviations of standardisations and normalisations.
    fixed : int
        Numbers other than 0 in the matrices of the reservoir, which are not trained.
    seeded : bool
        Whether these matrices follow from the seed of the reservoir, so that the model file has 0 bytes of them.
    flops, sparse_flops : int
        Floating-point operations of one sample with the most steps (`rcdp_hpc.model.flops`), with and without those of
        weights that are 0.
    uncounted : list of str
        Types of layers whose operations are not known, and are missing in `flops`.
    bytes : int or None
        Size of the model file; None for a model that is not from a file.
    milliseconds : float or None
        Median time of a sample in blocks of 32 samples on one thread (and the GPU, if the model is on one), from
        prepared samples to probabilities; None if it was not measured.
    """

    trained: int
    nonzero: int
    fixed: int
    seeded: bool
    flops: int
    sparse_flops: int
    uncounted: list[str]
    bytes: int | None
    milliseconds: float | None

    def line(self) -> str:
        """Return the complexity as a line for the log."""
        parts = [
            f"{self.trained:,} trained parameters",
            f"{self.nonzero:,} numbers other than 0 in the prediction",
            f"{amount(self.flops)}FLOPs a sample ({amount(self.sparse_flops)}FLOPs without zeros)",
        ]
        if self.bytes is not None:
            parts.append(f"{amount(self.bytes)}B")
        if self.milliseconds is not None:
            parts.append(f"{self.milliseconds:.3g} ms a sample on one thread")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the attributes for a JSON file."""
        return asdict(self)


def complexity(model: TrainedModel, samples: NDArray[Any] | None = None) -> Complexity:
    """Return the complexity of a model.

    Parameters
    ----------
    model : TrainedModel
    samples : ndarray, shape (rows, *sample_shape), optional
        Samples as in the shards that the time is measured with; without them it is not measured.

    Returns
    -------
    Complexity
    """
    file, flops = model.file, flops_of(model)
    stored = [file.weights, file.learned]
    numbers = [
        value for tensors in stored for name, value in tensors.items()
        if value.is_floating_point() and not name.endswith(UNREAD)
    ]  # fmt: skip
    return Complexity(
        trained=sum(value.numel() for value in model.network.parameters()),
        nonzero=sum(int(value.count_nonzero()) for value in numbers),
        fixed=sum(_fixed_numbers(reservoir) for reservoir in _reservoirs(model)),
        seeded=file.matrices is None,
        flops=flops.dense,
        sparse_flops=flops.sparse,
        uncounted=flops.uncounted,
        bytes=os.stat(file.where).st_size if Path(file.where).is_file() else None,
        milliseconds=None if samples is None or not len(samples) else milliseconds_per_sample(model, samples),
    )


def amount(value: float) -> str:
    """Return a count with three digits and the prefix of its unit, such as "1.23 M"."""
    for prefix, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:g} "


def flops_of(model: TrainedModel) -> Flops:
    """Return the operations of one sample of the shape of the training samples."""
    source = model.reservoir
    parts = [value for value in vars(source).values() if isinstance(value, nn.Module)]
    fixed = list({id(part): part for part in parts}.values())  # an extractor may have two names
    with torch.no_grad(), counted(*fixed, model.network) as flops:
        features = source.drive(np.zeros((1, *model.sample_shape), np.float32))
        model.network.probabilities(features.float())
    for reservoir in _driven_by(source):
        add_reservoir(flops, reservoir, _steps(source, model.sample_shape))
    return flops


def milliseconds_per_sample(model: TrainedModel, samples: NDArray[Any]) -> float:
    """Return the median time of a sample, in milliseconds, in blocks of 32 samples on one thread.

    The first block, which loads libraries and allocates memory, does not count.
    """
    block = samples[np.arange(FEWEST_ROWS) % len(samples)]
    seconds: list[float] = []
    with limit_threads(1):
        for _ in range(1 + REPEATS):
            started = time.perf_counter()
            model.probabilities_of(model.states(block, scaled=True))
            seconds.append(time.perf_counter() - started)
            if len(seconds) > 1 and sum(seconds) > MOST_SECONDS:
                break
    return 1000 * median(seconds[1:]) / len(block)


def _driven_by(source: Any) -> list[Reservoir]:
    """Return the reservoir that computes the rows of a source; empty if there is none."""
    return [part for part in (source, *vars(source).values()) if isinstance(part, Reservoir)]


def _steps(source: Any, sample_shape: tuple[int, ...]) -> int:
    """Return the steps of the sequence that drives the reservoir of a source."""
    steps = getattr(vars(source).get("extractor"), "steps", None)
    return int(source.sequencer.shape(sample_shape)[0] if steps is None else steps)


def _reservoirs(model: TrainedModel) -> list[Reservoir]:
    """Return the reservoir of a model; empty if there is none. The members of an ensemble share its matrices."""
    inside = [getattr(module, "reservoir", None) for module in model.network.modules()]
    return [part for part in (*_driven_by(model.reservoir), *inside) if isinstance(part, Reservoir)][:1]


def _fixed_numbers(reservoir: Reservoir) -> int:
    parts = [matrices for layers in reservoir.matrices for matrices in layers]
    dense = [array for part in parts for array in (part.input, part.bias, part.mixing) if array is not None]
    return sum(int(part.recurrent.count_nonzero()) for part in parts) + sum(int(np.count_nonzero(x)) for x in dense)
