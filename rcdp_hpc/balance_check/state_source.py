"""The source of states of a check: the configured extractor and reservoir, as a training would build them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.balance_check.rows import CheckRows
from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import extractor_choice
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.assembly import make_source
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.networks.learned_source import LearnedSource, load_learned
from rcdp_hpc.reservoir.calibrate import choose_batch_rows, choose_kernel, default_cache
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.reservoir.precision import ROWS, Rounding, furthest, measure_rounding
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.runtime.threads import limit_threads

log = logging.getLogger(__name__)


def refuse_trained(config: Config) -> None:
    """Raise an `InputError` if states depend on weights that are trained by gradient, or on another model."""
    kind = config.extractor.kind
    if extractor_choice(kind).trained:
        raise InputError(
            f"extractor.kind = {kind!r} is trained by gradient with the readout, and this check solves a readout of "
            "fixed features: set extractor.kind = 'none' or another fixed extractor."
        )
    if kind == "pretrained":
        raise InputError(
            "extractor.kind = 'pretrained' takes the extractor of another model, which may have been trained on rows "
            "that a fold holds out: set extractor.kind = 'none' or another fixed extractor."
        )


@dataclass(frozen=True, eq=False)
class HeldSamples:
    """The rows of a check that an extractor is learned from; a `rcdp_hpc.networks.learned_source.TrainingSamples`."""

    rows_of_check: CheckRows
    seed: int

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.rows_of_check.source.sample_shape

    def rows(self, count: int) -> NDArray[np.float32]:
        """Return about `count` samples that the seed chooses; all if there are fewer."""
        return self.rows_of_check.source.samples(self._chosen(count))

    def originals(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
        """Return the samples of `rows`, and their lengths."""
        chosen = self._chosen(count)
        lengths = self.rows_of_check.source.lengths(chosen)
        return self.rows_of_check.source.samples(chosen), None if lengths is None else lengths.astype(np.int32)

    def labelled(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Refuse labels: those of held-out rows would take part."""
        raise InputError(
            "the extractor is learned from labels, and would see those of the rows that a fold holds out: set "
            "extractor.kind = 'pca' or 'none'."
        )

    def _chosen(self, count: int) -> NDArray[np.int64]:
        total = len(self.rows_of_check.labels)
        if count >= total:
            return np.arange(total)
        return np.sort(np.random.default_rng([self.seed, total]).choice(total, count, replace=False))


def state_source(
    config: Config, rows: CheckRows, comm: Communicator, device: torch.device, threads: int
) -> tuple[StateSource, Config]:
    """Return the source of states on every rank, and the settings with the measured kernel. Collective.

    An extractor that is learned without labels is learned from all rows, those of all folds included: the check
    compares readouts of the same features.
    """
    config = run_on_root(comm, lambda: with_measured_kernel(config, rows, device, threads, comm.size))
    source = agree(comm, lambda: make_source(config, rows.source.sample_shape, device))
    if isinstance(source, LearnedSource):
        state = run_on_root(comm, lambda: _learned(config, rows, source))
        load_learned(source, {name: torch.from_numpy(value) for name, value in state.items()})
    return source, config


def _learned(config: Config, rows: CheckRows, source: LearnedSource) -> dict[str, NDArray[np.generic]]:
    with limit_threads(1):
        state, description = source.learn(HeldSamples(rows, config.run.seed), config.run.seed)
    log.info("%s", description)
    return {name: value.numpy() for name, value in state.items()}


def with_measured_kernel(config: Config, rows: CheckRows, device: torch.device, threads: int, ranks: int) -> Config:
    """Return the configuration with a kernel and batch rows for these samples, measured if they are not set."""
    reservoir = config.reservoir
    if config.extractor.makes_sequences or reservoir.kind != "random":
        return config
    shape, total = rows.source.sample_shape, len(rows.labels)
    steps, features = Sequencer.of(reservoir).shape(shape)
    kernel, name = str(reservoir.kernel), str(device)

    def rounding(name: str) -> Rounding:
        block = np.linspace(0, total - 1, min(ROWS, total)).astype(np.int64)
        x, lengths = rows.source.samples(block), rows.source.lengths(block)
        return measure_rounding(furthest(config), name, x, rows.labels[block], lengths, str(device))

    if kernel == "auto":
        density = 1.0 if reservoir.weights == "orthogonal" else reservoir.density
        kernel = choose_kernel(
            reservoir.nodes, features, reservoir.batch_rows, threads, name, density=density, cache=default_cache(),
            rounding=rounding,
        )  # fmt: skip
    batch = reservoir.batch_rows or choose_batch_rows(
        reservoir.nodes, features, kernel, threads, name, cache=default_cache(), steps=steps,
        rows=math.ceil(total / ranks),
    )  # fmt: skip
    changed = reservoir.model_copy(update={"kernel": kernel, "batch_rows": batch})
    return config.model_copy(update={"reservoir": changed})


def without_joined_weights(config: Config, rows: CheckRows) -> bool:
    """Return whether the features of an extractor follow the states, whose common weight is not chosen here."""
    return extractor_of(config, rows.source.sample_shape).joined_features > 0
