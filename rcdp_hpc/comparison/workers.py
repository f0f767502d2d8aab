"""The work of a comparison on groups of ranks: data and extractors first, then the cells."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rcdp_hpc.comparison.cells import Comparing, run_cell
from rcdp_hpc.comparison.checks import refuse_few_rows
from rcdp_hpc.comparison.data import (
    data_directory,
    data_name,
    extractor_directory,
    extractor_name,
    prepare_data,
    train_extractor,
)
from rcdp_hpc.comparison.plan import PlannedCell
from rcdp_hpc.comparison.queue import Queue
from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError, RcdpError, StoppedError
from rcdp_hpc.pipeline.array_data import LabelledArrays, arrays_of_root
from rcdp_hpc.pipeline.stages import StageOptions
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import available_cores, gather_placement

log = logging.getLogger(__name__)

# Seconds between looks at data that another task of a job array prepares.
POLL_SECONDS = 2.0


@dataclass(frozen=True)
class CompareOptions:
    """What part of a comparison a start computes, and how.

    Attributes
    ----------
    stage : StageOptions
        How the stages of the runs start.
    cell : int
        Only this cell, counted from 1, on all ranks; 0 for all cells.
    data_only : bool
        Only the data and the extractors that the cells share.
    restart : bool
        Put earlier results aside and start again; of a single cell its own only.
    """

    stage: StageOptions
    cell: int = 0
    data_only: bool = False
    restart: bool = False


def run_on_groups(comparing: Comparing, comm: Communicator, options: CompareOptions) -> RcdpError | None:
    """Prepare the data and run all cells on groups of ranks; return the first failure of this rank's group."""
    _report_idle_cores(comparing, comm)
    group = _group(comparing.config, comm)
    queue = Queue(comparing.run.path, comm, group)
    try:
        stage = replace(options.stage, arrays=_on_first_ranks(comm, group, options.stage.arrays))
        failure = _prepared(comparing, queue, group, stage)
        queue.wait_for_all("prepared")
        # Cells without data would only fail again.
        if any(comm.allgather(failure is not None)):
            return failure
        run_on_root(comm, lambda: refuse_few_rows(comparing.config, comparing.run, comparing.plan, comparing.facts))
        if options.data_only:
            return None
        failure = _cells(comparing, queue, group)
        queue.wait_for_all("ended")
        return failure
    finally:
        queue.close()
        if group is not comm and group.size > 1:
            group.close()


def _report_idle_cores(comparing: Comparing, comm: Communicator) -> None:
    """Log how to use the other cores of the machine if one process runs all cells."""
    cells, cores = len(comparing.plan.run_cells), available_cores()
    if comm.size == 1 and min(cells, cores) > 1 and not comparing.config.training.threads:
        log.info(
            "%d cells run one after another, each with one thread: mpirun -n %d would run that many at the same time",
            *(cells, min(cells, cores)),
        )


def _group(config: Config, comm: Communicator) -> Communicator:
    """Return the ranks that work on one cell together with this one. Collective.

    A group of one rank needs no messages: cells of one rank also run where ranks cannot form groups.
    """
    size = config.compare.group_ranks or comm.size
    if comm.size == 1 or size >= comm.size:
        return comm
    places = gather_placement(comm)
    number, count = comm.rank // size, comm.size // size
    group = SingleProcess() if size == 1 else comm.split(min(number, count - 1))
    group.job_placement = places
    log.info("%d groups of ranks work on cells at the same time; this is the log of the first group", count)
    return group


def _on_first_ranks(comm: Communicator, group: Communicator, arrays: LabelledArrays | None) -> LabelledArrays | None:
    """Return the arrays of rank 0 on the first rank of each group, which prepares data. Collective."""
    if group is comm or not comm.broadcast(arrays is not None):
        return arrays
    received = arrays_of_root(comm, arrays)
    return received if group.is_root else None


def _prepared(comparing: Comparing, queue: Queue, group: Communicator, stage: StageOptions) -> RcdpError | None:
    """Prepare the data and train the extractors that the cells share; return the first failure."""
    firsts = _first_cells(comparing)
    try:
        for name in queue.take([f"data-{name}" for name in firsts]):
            _prepare_and_train(comparing, firsts[name.removeprefix("data-")], group, stage)
    except RcdpError as error:
        if not error.agreed and group.size > 1:
            raise
        return error
    return None


def _first_cells(comparing: Comparing) -> dict[str, list[PlannedCell]]:
    """Return, by name of the data, a cell of each repetition that reads them, preferably of the arm "extractor"."""
    firsts: dict[str, dict[tuple[int, int], PlannedCell]] = {}
    for cell in comparing.plan.run_cells:
        cells = firsts.setdefault(data_name(comparing.config, cell), {})
        if cell.arm == "extractor" or (cell.seed, cell.fold) not in cells:
            cells[cell.seed, cell.fold] = cell
    return {name: list(cells.values()) for name, cells in firsts.items()}


def _prepare_and_train(
    comparing: Comparing, cells: Sequence[PlannedCell], group: Communicator, stage: StageOptions
) -> None:
    prepare_data(comparing.config, comparing.run, cells[0], group, stage)
    for cell in cells:
        if cell.arm == "extractor":
            train_extractor(comparing.config, comparing.run, cell, comparing.facts, group, stage)


def _cells(comparing: Comparing, queue: Queue, group: Communicator) -> RcdpError | None:
    """Run cells until none is left; return the error that ended this group's work early."""
    for name in queue.take([cell.name for cell in comparing.plan.run_cells]):
        error = _try_cell(comparing, comparing.cell(name), group)
        if error is not None:
            return error
    return None


def _try_cell(comparing: Comparing, cell: PlannedCell, comm: Communicator) -> RcdpError | None:
    """Run a cell; return the error that ended the work, which is not one of the cell itself."""
    try:
        if signals.stop_agreed(comm):
            return StoppedError("stopped before the next cell")
        run_cell(comparing, cell, comm)
    except RcdpError as error:
        if not error.agreed and comm.size > 1:
            raise
        return error
    return None


def run_one_cell(
    comparing: Comparing, cell: PlannedCell, comm: Communicator, options: CompareOptions
) -> RcdpError | None:
    """Run one cell on all ranks, after its data are there."""
    if cell not in comparing.plan.run_cells:
        log.info("cell %d, %s: nothing to do, since its method is left out", cell.number, cell.name)
        return None
    try:
        while not run_on_root(comm, lambda: _is_prepared(comparing, cell)):
            _prepare_unless_in_use(comparing, cell, comm, options.stage)
    except RcdpError as error:
        if not error.agreed and comm.size > 1:
            raise
        return error
    return _try_cell(comparing, cell, comm)


def _is_prepared(comparing: Comparing, cell: PlannedCell) -> bool:
    """Return whether data and extractor of a cell are there."""
    stages = [(data_directory(comparing.run, data_name(comparing.config, cell)), "prepare")]
    if cell.arm == "extractor":
        stages.append((extractor_directory(comparing.run, extractor_name(cell)), "train"))
    return all(run.state(stage).get("status") == "done" for run, stage in stages)


def _prepare_unless_in_use(comparing: Comparing, cell: PlannedCell, comm: Communicator, stage: StageOptions) -> None:
    """Prepare what a cell reads; if another task of a job array does so, wait for a moment instead. Collective."""
    try:
        _prepare_and_train(comparing, [cell], comm, stage)
    except InputError as error:
        if (not error.agreed and comm.size > 1) or "is in use by" not in str(error):
            raise
        log.info("waiting for the data, which another task prepares: %s", error)
        run_on_root(comm, lambda: signals.raise_if_stopped("waiting for the data of another task"))
        time.sleep(POLL_SECONDS)
