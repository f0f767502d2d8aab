"""Whether states and sums fit into memory, before they are computed."""

from __future__ import annotations

import logging

from rcdp_hpc.balance_check.row_space import total_rows
from rcdp_hpc.balance_check.rows import MEMORY_SHARE, CheckRows
from rcdp_hpc.balance_check.state_pass import local_slabs, sums_bytes
from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root
from rcdp_hpc.runtime.ram import MIB, machine_memory
from rcdp_hpc.runtime.threads import ranks_on_host

log = logging.getLogger(__name__)


def sums_by_class(config: Config, rows: CheckRows, source: StateSource, weightings: int, comm: Communicator) -> bool:
    """Return whether sums by class fit into memory. Collective.

    Raises
    ------
    InputError
        On all ranks, if not even the states and the sums without classes fit.
    """
    bounds = local_slabs(len(rows.labels), comm)
    local = bounds[-1][1] - bounds[0][0] if bounds else 0
    penalties, classes = len(config.readout.ridge_penalties), len(rows.classes)
    ranks = ranks_on_host(comm)

    def needed(by_class: bool) -> int:
        states = local * source.width * source.dtype.itemsize
        scores = local * classes * (4 * penalties + 8 * len(rows.resampled) + 24)
        readouts = 8 * rows.fold_count * penalties * (source.width + 1) * classes
        return ranks * (states + scores + readouts + sums_bytes(rows, source.width, by_class, weightings))

    samples = rows.sample_bytes
    room = [MEMORY_SHARE * machine_memory() - samples - needed(by_class) for by_class in (True, False)]
    rooms = comm.allgather(room)
    by_class, fits = (all(one[place] >= 0 for one in rooms) for place in (0, 1))
    run_on_root(comm, lambda: _report(by_class, fits, needed(False) + samples, ranks))
    return by_class


def refuse_many_products(rows: CheckRows, width: int) -> None:
    """Raise an `InputError` if states and products of rows do not fit into memory, on the rank that makes them."""
    total = total_rows(rows)
    # The states in float64 while they are gathered, and in float32; the products of all rows and of a training part.
    needed = rows.sample_bytes + 20 * total * width + 8 * 4 * total**2
    if needed > MEMORY_SHARE * machine_memory():
        raise InputError(
            f"states and products of {total} rows need {needed // MIB} MiB, more than this machine has: set "
            "data.max_samples or fewer reservoir.nodes."
        )


def _report(by_class: bool, fits: bool, needed: int, ranks: int) -> None:
    if not fits:
        raise InputError(
            f"states and sums of this check need {needed // MIB} MiB on a machine with {ranks} ranks, more than it "
            "has: start fewer ranks on each of more nodes, or set data.max_samples, fewer reservoir.nodes or --folds."
        )
    if not by_class:
        log.warning(
            "sums by class do not fit into memory: class weights are those of all rows, in place of those of each "
            "training part"
        )
