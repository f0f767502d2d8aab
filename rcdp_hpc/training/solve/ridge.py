"""The readout solved by ridge regression on all ranks: the baseline, a network's initial weights, or the model."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from rcdp_hpc.config import TRAINING_SECTIONS, Config, refuse_other_settings, settings_that_matter
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.repair import replaced_files
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.networks.learned_source import learned_of
from rcdp_hpc.networks.readouts.ridge import RidgeNetwork
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree_on_root
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.solve.ridge_fit import RidgeFit, fit_ridge
from rcdp_hpc.training.solve.ridge_rows import cached_source, streamed_source
from rcdp_hpc.training.states.cache import CachedStates

log = logging.getLogger(__name__)


def baseline_of(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardReader,
    states: tuple[CachedStates, CachedStates],
    plan: BatchPlan,
    reservoir: StateSource,
) -> RidgeFit:
    """Fit the ridge readout to the states that the network is trained on, and save it next to the model. Collective.

    With ``readout.warm_start``, the network starts from this readout and is evaluated on the validation rows, so the
    readout is not fitted to them.
    """
    source = cached_source(comm, shards, states, plan, reservoir.batch_rows)
    fit = fit_ridge(config, comm, source, with_validation=not config.readout.warm_start)
    log.info("baseline, a readout solved by ridge: %s", _outcome(fit))
    ridge = config.model_copy(update={"readout": config.readout.model_copy(update={"kind": "ridge"})})

    def write() -> None:
        ModelFile.write(
            run.train / "ridge.pt", ridge, shards, RidgeNetwork.weights_of(fit.readout),
            learned_of(reservoir), role="baseline",
        )  # fmt: skip

    agree_on_root(comm, write)
    return fit


def solve_readout(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardReader,
    reservoir: StateSource,
    plan: BatchPlan,
    threads: int,
) -> dict[str, Any]:
    """Run the training stage for ``readout.kind = "ridge"``. Collective.

    Returns
    -------
    dict
        Left-out or validation accuracy, penalty, replaced shards, ranks, threads.
    """
    settings = settings_that_matter(config, ("run", "data", *TRAINING_SECTIONS))
    earlier = comm.broadcast(agree_on_root(comm, lambda: _earlier_result(run, settings)))
    if earlier is not None:
        log.info("the readout is solved already")
        return dict(earlier)
    rows = (shards.rows("train") + shards.rows("validation")) // comm.size
    with Progress("states and sums", rows, enabled=comm.is_root and config.run.progress) as progress:
        source = streamed_source(config, comm, shards, reservoir, plan, progress)
        fit = fit_ridge(config, comm, source)
    log.info("readout solved by ridge: %s", _outcome(fit))
    result = {
        "epochs": 0,
        "validation_accuracy": fit.accuracy,
        "selected_by": fit.selected_by,
        "penalty": fit.penalty,
        "ended": "the readout is solved",
        "replaced": list(replaced_files(shards)),
        "ranks": comm.size,
        "threads": threads,
    }

    def write() -> None:
        ModelFile.write(
            run.model, config, shards, RidgeNetwork.weights_of(fit.readout),
            learned_of(reservoir),
        )  # fmt: skip
        write_sealed(run.train / "ridge.json", {"settings": settings, "result": result})

    agree_on_root(comm, write)
    return result


def _outcome(fit: RidgeFit) -> str:
    measure = "left-out accuracy" if fit.selected_by == "left-out" else "accuracy on validation"
    return f"{measure} {100 * fit.accuracy:.2f} % (penalty {fit.penalty:g})"


def _earlier_result(run: RunDirectory, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result of an earlier solution with the same settings, if any; raise an error if settings differ."""
    path = run.train / "ridge.json"
    if not path.exists() or not os.path.lexists(run.model):
        return None
    try:
        ModelFile.read(run.model)
    except DataDamagedError as error:
        log.warning("%s The readout is solved again.", error)
        return None
    content = read_sealed(path, "Solve the readout again with rcdp train --restart.")
    refuse_other_settings(str(path), content["settings"], json.loads(json.dumps(settings)), "training")
    return dict(content["result"])
