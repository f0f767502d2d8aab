"""Removal of features and nodes from a solved linear readout, in closed form."""

from __future__ import annotations

from rcdp_hpc.deploy.compress.task import ClosedForm, CompressTask
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.collective import agreed


def prune_ridge(task: CompressTask) -> ClosedForm:
    """Write the model with fewer features, nodes or weights. Collective.

    Raises
    ------
    InputError
        If the readout cannot be reduced this way.
    """
    raise agreed(InputError(f"readout.kind = {task.config.readout.kind!r}: solved readouts are not reduced yet"))
