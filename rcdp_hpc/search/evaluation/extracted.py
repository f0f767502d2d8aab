"""Candidates read what the readout will read: the features of a fixed extractor in place of the samples.

The features do not depend on a candidate, so they are computed once, before the search, and the ranks of a node share
them.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.assembly import make_source
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.ram import MIB, machine_memory
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.effective import evaluated_shape, reads_extractor
from rcdp_hpc.search.evaluation.rank_group import row_blocks
from rcdp_hpc.training.solve.dictionary_fit import learn_extractor

if TYPE_CHECKING:
    from rcdp_hpc.data.shards.reader import ShardReader

log = logging.getLogger(__name__)

BLOCK_ROWS = 256
Lengths = NDArray[np.int64] | None


@dataclass(frozen=True)
class Extracted:
    """Computes the features of a fixed extractor.

    Attributes
    ----------
    source : StateSource
        The extractor without a reservoir.
    steps : int
        Steps of the sequences that drive the reservoir; 1 if the features are those of whole samples.
    threads : int
        Threads that compute the features; their last digits may depend on it.
    """

    source: StateSource
    steps: int
    threads: int

    @property
    def shape(self) -> tuple[int, int]:
        """Steps, and features per step."""
        return self.steps, self.source.width // self.steps

    def __call__(self, x: NDArray[Any], lengths: Lengths) -> NDArray[np.float32]:
        """Return the features of samples, shape (rows, steps, features per step).

        Raises
        ------
        InputError
            If they do not fit into memory.
        """
        needed, memory = 4 * len(x) * self.source.width, machine_memory()
        if needed > memory:
            raise InputError(
                f"search: the features of the extractor for {len(x)} rows need {math.ceil(needed / MIB)} MiB, and this "
                f"machine has {memory // MIB} MiB: set smaller search.train_rows and search.validation_rows, or fewer "
                "features of the extractor"
            )
        features = np.empty((len(x), self.source.width), dtype=np.float32)
        with limit_threads(self.threads), torch.no_grad():
            for rows in row_blocks(len(x), BLOCK_ROWS):
                steps = None if lengths is None else lengths[rows].copy()
                # The rows may be read-only, which torch does not support.
                features[rows] = self.source.drive(x[rows].copy(), steps).cpu().numpy()
        return features.reshape(len(x), *self.shape)


def extracted(
    config: Config, comm: Communicator, run: RunDirectory, shards: ShardReader, device: str
) -> Extracted | None:
    """Return what computes the features that candidates read; None if they read the samples. Collective.

    An extractor that is learned without labels is learned now, to the bits that the training uses, and stored in
    ``RUN/train`` for it.

    Parameters
    ----------
    config : Config
        Of the whole run.
    comm : Communicator
    run : RunDirectory
    shards : ShardReader
    device : str
        Torch's name of the device that computes states.

    Raises
    ------
    InputError
        If the samples have another shape than the extractor takes.
    """
    if not reads_extractor(config):
        return None
    # Scaling and differences are applied by the source of a candidate, to the sequences.
    plain = {"kind": "none", "series_scaling": "none", "differences": False}
    alone = config.model_copy(update={"reservoir": config.reservoir.model_copy(update=plain)})
    source = agree(comm, lambda: make_source(alone, shards.sample_shape, torch.device(device)))
    learn_extractor(config, comm, run, shards, source)
    steps, _ = evaluated_shape(config, shards.sample_shape)
    return Extracted(source, steps, config.search.threads)


def report_evaluated(config: Config, features: Extracted | None) -> None:
    """Log what candidates read if there is an extractor."""
    kind = config.extractor.kind
    if config.search.evaluation == "function" or kind == "none":
        return
    if features is not None:
        steps, width = features.shape
        log.info(
            "extractor.kind = %r: candidates read its features, computed once (%d step%s of %d features per sample)",
            *(kind, steps, "" if steps == 1 else "s", width),
        )
    elif config.extractor.trained:
        log.info(
            "extractor.kind = %r is trained with the readout, after the search: candidates read the samples, cut by "
            "reservoir.sequence = %r",
            *(kind, config.reservoir.sequence),
        )
    else:
        log.info(
            "extractor.kind = %r: the search evaluates the states of the reservoir only, not the features of the %s",
            *(kind, kind),
        )
