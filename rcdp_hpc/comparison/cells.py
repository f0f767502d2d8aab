"""One cell of a comparison: its run directory, its method, and the record of how it ended."""

from __future__ import annotations

import json
import logging
import traceback
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rcdp_hpc.comparison.checks import lock_of, method_of
from rcdp_hpc.comparison.data import extractor_directory, extractor_name, link_data
from rcdp_hpc.comparison.methods.base import Cell, Outcome
from rcdp_hpc.comparison.plan import Plan, PlannedCell, budget_of
from rcdp_hpc.comparison.records import CellRecord, read_record, write_record
from rcdp_hpc.comparison.settings import config_of_cell
from rcdp_hpc.comparison.utilisation import Utilisation
from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.errors import RcdpError, StoppedError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, run_on_root
from rcdp_hpc.runtime.comm.lost_ranks import is_lost_rank
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.logs import terminal_shows
from rcdp_hpc.runtime.ram import is_out_of_memory
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import Lines

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparing:
    """A comparison under way.

    Attributes
    ----------
    config : Config
        Settings of the comparison, all paths absolute.
    run : RunDirectory
        Folder of the comparison.
    plan : Plan
    facts : DataFacts
    """

    config: Config
    run: RunDirectory
    plan: Plan
    facts: DataFacts

    def cell(self, name: str) -> PlannedCell:
        """Return a planned cell by its name."""
        return next(cell for cell in self.plan.cells if cell.name == name)


def run_cell(comparing: Comparing, cell: PlannedCell, comm: Communicator) -> CellRecord:
    """Run a cell, unless it is done, and record how it ended. Collective over the ranks of the cell.

    A cell that failed before is tried again, from its last checkpoint.

    Raises
    ------
    StoppedError
        If a signal stopped the cell.
    RcdpError
        If another job works on the cell, or its record cannot be read or written. If one of several ranks fails alone,
        the error is raised on that rank.
    """
    run = comparing.run.cell(cell.name)
    earlier = run_on_root(comm, lambda: read_record(run))
    if earlier is not None and earlier.outcome is not None:
        return earlier
    log.info("== cell %d of %d: %s ==", cell.number, len(comparing.plan.cells), cell.name)
    with ExitStack() as stack:

        def enter() -> None:
            stack.enter_context(RunLock(lock_of(run)))

        run_on_root(comm, enter)
        record = _ended(comparing, cell, run, comm)
        agree_on_root(comm, lambda: write_record(run, cell, record))
    _log(cell, record)
    return record


def _ended(comparing: Comparing, cell: PlannedCell, run: RunDirectory, comm: Communicator) -> CellRecord:
    """Run the method of a cell and return how it ended."""
    used = Utilisation()
    try:
        with used:
            prepared = run_on_root(comm, lambda: link_data(comparing.config, comparing.run, cell, run))
            model = _extractor(comparing, cell)
            config = agree(comm, lambda: config_of_cell(comparing.config, cell, comparing.facts, prepared, model))
            method = agree(comm, lambda: method_of(cell.method))
            budget = budget_of(cell, comparing.config)
            # The log of the cell has the lines of its stages.
            with terminal_shows("rcdp_hpc.comparison"):
                outcome = _checked(method.run(Cell(config, comm, run, budget, comparing.facts)))
    except StoppedError:
        raise
    except RcdpError as error:
        if not error.agreed and comm.size > 1:
            raise
        return CellRecord("failed", str(error), ranks=comm.size)
    except Exception as error:
        # Ranks that wait for this one would wait forever.
        if comm.size > 1 or is_lost_rank(error):
            raise
        return CellRecord("failed", _reason(cell, error))
    return CellRecord("done", outcome=outcome, ranks=comm.size, utilisation=used.over(comm))


def _checked(outcome: Outcome) -> Outcome:
    """Return the outcome of a method; raise a `TypeError` or `ValueError` if it is not one, or JSON cannot hold it."""
    if not isinstance(outcome, Outcome):
        raise TypeError(f"the method returned {type(outcome).__name__}, not an Outcome")
    missing = [name for name in ("accuracy", "macro_f1", "recall") if name not in outcome.test]
    if missing:
        raise ValueError(f"the test scores of the method lack {', '.join(missing)}")
    json.dumps(outcome.as_json(), allow_nan=False)
    return outcome


def _extractor(comparing: Comparing, cell: PlannedCell) -> Path | None:
    if cell.arm != "extractor":
        return None
    return extractor_directory(comparing.run, extractor_name(cell)).model


def _reason(cell: PlannedCell, error: Exception) -> str:
    """Return why a method failed with an error that has no message for people; log where it was raised."""
    first, *_ = str(error).splitlines() or [""]
    if is_out_of_memory(error):
        return f"out of memory ({first or type(error).__name__})"
    log.error("cell %s failed:\n%s", cell.name, Lines(traceback.format_exc()))
    return f"{type(error).__name__}: {first}"


def _log(cell: PlannedCell, record: CellRecord) -> None:
    if record.outcome is None:
        log.warning("cell %s failed: %s", cell.name, record.reason)
        return
    outcome = record.outcome
    log.info(
        "%s: test accuracy %.2f %%, macro F1 %.4f, validation accuracy %.2f %%",
        cell.name, 100 * outcome.test["accuracy"], outcome.test["macro_f1"], 100 * outcome.validation_accuracy,
    )  # fmt: skip
