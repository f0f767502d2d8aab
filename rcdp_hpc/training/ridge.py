"""The readout solved by ridge regression on all ranks: a baseline, what a network begins as, or the model itself."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.config import Config, TrainingSection, refuse_other_settings, settings_that_matter
from rcdp_hpc.data.reading import ShardSet
from rcdp_hpc.data.refill import replaced_in
from rcdp_hpc.reservoir.passed import StateSource
from rcdp_hpc.reservoir.ridge import (
    ROWS_AT_ONCE,
    GramSums,
    RidgeReadout,
    best_readout,
    reduce_sums,
    solve_path,
)
from rcdp_hpc.reservoir.stream import bound_of_sums, sum_slabs
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.collective import agree
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.runtime.files import read_json, write_json
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.cache import CachedStates, state_blocks
from rcdp_hpc.training.networks.dictionary import learned_of
from rcdp_hpc.training.shifts import shifts_within

log = logging.getLogger(__name__)

LEAST_SHARE = 1e-6
Blocks = Iterable[tuple[torch.Tensor, torch.Tensor]]


class RidgeNetwork(nn.Module):
    """A linear readout in the place of a trained one.

    z = W s + b approximates one-hot classes; the scores given are log(max(z, 1e-6)), so that their softmax is z without
    what is negative, scaled to the sum 1.

    Parameters
    ----------
    features, classes : int
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return class scores (rows, classes) of states (rows, features)."""
        return torch.log(self.linear(states).clamp_min(LEAST_SHARE))

    @staticmethod
    def weights_of(readout: RidgeReadout) -> dict[str, torch.Tensor]:
        """Return the state of a network that computes this readout."""
        return {
            "linear.weight": torch.from_numpy(readout.weights.T.copy()).float(),
            "linear.bias": torch.from_numpy(readout.intercept).float(),
        }


@dataclass(frozen=True)
class RidgeFit:
    """A ridge readout and how it was chosen.

    Attributes
    ----------
    readout : RidgeReadout
    penalty : float
        Per row; the best of ``training.ridge_penalties`` on the validation rows.
    accuracy : float
        On the validation rows.
    means, deviations : numpy.ndarray, shape (classes,), float64
        Of the scores, over the training rows.
    """

    readout: RidgeReadout
    penalty: float
    accuracy: float
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]


def fit_ridge(
    config: Config,
    comm: Communicator,
    width: int,
    classes: int,
    rows: int,
    slabs: Iterable[Blocks],
    validation: Blocks,
    validation_rows: int,
) -> RidgeFit:
    """Solve the readout from the sums of all ranks and choose its penalty on validation. Collective.

    Parameters
    ----------
    config : Config
    comm : Communicator
    width, classes : int
        Features and classes.
    rows, validation_rows : int
        Rows over all ranks.
    slabs : iterable of iterables of (torch.Tensor, torch.Tensor)
        This rank's training states and class numbers, slab by slab.
    validation : iterable of (torch.Tensor, torch.Tensor)
        This rank's validation states and class numbers, block by block; gone through once, for all penalties.

    Returns
    -------
    RidgeFit
        The same bits on every rank, and for any number of ranks.
    """

    def summed() -> GramSums:
        activation = "identity" if config.reservoir.kind == "none" else config.reservoir.activation
        bound = bound_of_sums(activation, rows)
        return sum_slabs(GramSums(width, classes, config.training.ridge_precision, bound), slabs, classes)

    started = time.perf_counter()
    sums = reduce_sums(agree(comm, summed), comm)
    summed_at = time.perf_counter()

    readouts = solve_path(sums, config.training.ridge_penalties)
    small = [f"{penalty:g}" for penalty in config.training.ridge_penalties if penalty not in readouts]
    if small:
        # A list of the user's own is meant; of the default one the smallest is expected to drop out.
        unasked = config.training.ridge_penalties == TrainingSection().ridge_penalties
        log.log(
            logging.INFO if unasked else logging.WARNING,
            "ridge: training.ridge_penalties of %s left out, too small for the rounding of the sums of %d rows "
            "(training.ridge_precision = '%s')",
            ", ".join(small), rows, config.training.ridge_precision,
        )  # fmt: skip
    correct = comm.allreduce(agree(comm, lambda: _correct(readouts.values(), validation)))
    accuracies = dict(zip(readouts, (correct / validation_rows).tolist(), strict=True))
    readout, penalty, best = best_readout(readouts, accuracies)
    log.info(
        "ridge over %d features, %d rows: sums %.1f s, %d penalties %.1f s",
        width, rows, summed_at - started, len(config.training.ridge_penalties), time.perf_counter() - summed_at,
    )  # fmt: skip
    # A fit with an intercept hits the mean.
    return RidgeFit(readout, penalty, best, sums.y / sums.rows, sums.deviations(readout, penalty))


def _correct(readouts: Collection[RidgeReadout], blocks: Blocks) -> NDArray[np.float64]:
    """Count what each readout gets right."""
    correct = np.zeros(len(readouts))
    for states, labels in blocks:
        expected = labels.cpu().numpy()
        correct += [np.count_nonzero(readout.predict(states).argmax(1) == expected) for readout in readouts]
    return correct


def baseline_of(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardSet,
    states: tuple[CachedStates, CachedStates],
    pieces: Sequence[tuple[int, int]],
    reservoir: StateSource,
) -> RidgeFit:
    """Fit the ridge readout to the states that the network is trained on, and keep it beside the model. Collective."""
    from rcdp_hpc.training.model import TrainedModel

    train, validation = states
    width = train.states.shape[1]

    def blocks(start: int, stop: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for block in train.blocks(reservoir.batch_rows, start - train.first, stop - train.first):
            signals.raise_if_stopped("summing reservoir states")
            yield block

    fit = fit_ridge(
        config, comm, width, len(shards.classes), shards.rows("train"), (blocks(*piece) for piece in pieces),
        validation.blocks(ROWS_AT_ONCE), shards.rows("validation"),
    )  # fmt: skip
    log.info(
        "baseline, a readout solved by ridge: %.2f %% on validation (penalty %g)",
        100 * fit.accuracy, fit.penalty,
    )  # fmt: skip
    training = config.training.model_copy(update={"readout": "ridge"})

    def write() -> None:
        TrainedModel.save(
            run.train / "ridge.pt", config.reservoir, training, shards, RidgeNetwork.weights_of(fit.readout),
            learned_of(reservoir),
        )  # fmt: skip

    agree(comm, lambda: write() if comm.is_root else None)
    return fit


def solve_readout(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardSet,
    reservoir: StateSource,
    pieces: Sequence[tuple[int, int]],
    validation_piece: tuple[int, int],
    threads: int,
) -> dict[str, Any]:
    """Do the training stage where the readout is solved: states stream into sums and are not kept. Collective.

    Returns
    -------
    dict
        Validation accuracy, penalty, shards that were replaced, ranks, threads.
    """
    from rcdp_hpc.training.model import TrainedModel

    settings = settings_that_matter(config, ("run", "data", "reservoir", "training"))
    done = agree(comm, lambda: _earlier(run, settings) if comm.is_root else None)
    done = comm.broadcast(done)
    if done is not None:
        log.info("the readout is solved already")
        return dict(done)
    mine = pieces[-1][1] - pieces[0][0] + validation_piece[1] - validation_piece[0]
    shifts = shifts_within(config.training.shifts)
    with Progress("states and sums", mine, enabled=comm.is_root and config.run.progress) as progress:

        def blocks(split: str, start: int, stop: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            doing, copies = "summing reservoir states", shifts if split == "train" else shifts[:1]
            for _, states, labels in state_blocks(
                reservoir, shards, split, start, stop, progress, doing, shifts=copies
            ):
                yield states, labels

        fit = fit_ridge(
            config, comm, reservoir.width, len(shards.classes), shards.rows("train") * len(shifts),
            (blocks("train", *piece) for piece in pieces), blocks("validation", *validation_piece),
            shards.rows("validation"),
        )  # fmt: skip
    log.info("readout solved by ridge: %.2f %% on validation (penalty %g)", 100 * fit.accuracy, fit.penalty)
    result = {
        "epochs": 0,
        "validation_accuracy": fit.accuracy,
        "penalty": fit.penalty,
        "ended": "the readout is solved",
        "replaced": list(replaced_in(shards)),
        "ranks": comm.size,
        "threads": threads,
    }

    def write() -> None:
        TrainedModel.save(
            run.model, config.reservoir, config.training, shards, RidgeNetwork.weights_of(fit.readout),
            learned_of(reservoir),
        )  # fmt: skip
        write_json(run.train / "ridge.json", {"settings": settings, "result": result})

    agree(comm, lambda: write() if comm.is_root else None)
    return result


def _earlier(run: RunDirectory, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result of a readout solved before with the same settings; refuse one of other settings."""
    path = run.train / "ridge.json"
    if not path.exists() or not run.model.exists():
        return None
    content = read_json(path)
    refuse_other_settings(str(path), content["settings"], json.loads(json.dumps(settings)), "training")
    return dict(content["result"])
