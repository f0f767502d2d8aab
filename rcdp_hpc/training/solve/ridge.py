"""The ridge readout that is the baseline of a network, and the initial weights of one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.networks.learned_source import learned_of
from rcdp_hpc.networks.readouts.ridge import RidgeNetwork
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree_on_root
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.solve.ridge_fit import RidgeFit, fit_ridge
from rcdp_hpc.training.solve.ridge_rows import cached_source
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
    source = cached_source(config, comm, shards, states, plan, reservoir.batch_rows)
    fit = fit_ridge(config, comm, source, with_validation=not config.readout.warm_start)
    log.info("baseline, a readout solved by ridge: %s", outcome(fit.selected_by, fit.accuracy, (fit.penalty,)))
    ridge = config.model_copy(update={"readout": config.readout.model_copy(update={"kind": "ridge"})})

    def write() -> None:
        ModelFile.write(
            run.train / "ridge.pt", ridge, shards, RidgeNetwork.weights_of(fit.readout),
            learned_of(reservoir), role="baseline",
        )  # fmt: skip

    agree_on_root(comm, write)
    return fit


def outcome(judged_by: str, accuracy: float, penalties: Sequence[float]) -> str:
    """Return the accuracy of a solved readout and its penalties as text."""
    measure = "left-out accuracy" if judged_by == "left-out" else "accuracy on validation"
    listed = ", ".join(f"{penalty:g}" for penalty in penalties)
    return f"{measure} {100 * accuracy:.2f} % ({'penalty' if len(penalties) == 1 else 'penalties'} {listed})"
