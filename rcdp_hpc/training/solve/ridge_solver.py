"""The solver of the linear readout (``readout.kind = "ridge"``)."""

from __future__ import annotations

from collections.abc import Callable

from rcdp_hpc.config import Config
from rcdp_hpc.networks.readouts.ridge import RidgeNetwork
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.training.solve.layer_file import LayerFile
from rcdp_hpc.training.solve.ridge_fit import RowSource, fit_ridge
from rcdp_hpc.training.solve.solver import Solution, Solver


class RidgeSolver(Solver):
    """Ridge regression from the states to one-hot classes, in one step."""

    method = "ridge"

    def passes(self, config: Config) -> int:
        """Return 1."""
        return 1

    def solve(
        self,
        config: Config,
        comm: Communicator,
        source: RowSource,
        shape: FeatureShape,
        seed: int,
        *,
        with_validation: bool = True,
        before_block: Callable[[], object] = lambda: None,
        file: LayerFile | None = None,
    ) -> Solution:
        """Solve the readout; parameters and result as `Solver.solve`."""
        fit = fit_ridge(config, comm, source, with_validation)
        weights = RidgeNetwork.weights_of(fit.readout)
        by = fit.selected_by
        return Solution(weights, fit.readout.scores, fit.accuracy, by, by, (fit.penalty,), fit.held_out)
