"""Comparison of methods on one data set: its cells run on groups of ranks, and their results are combined.

The folder of a comparison, ``DIR``:

- ``plan.json``: settings, methods left out and facts of the data, written before anything is computed
- ``data/NAME``, ``extractors/NAME``: shards and extractors that the cells of a repetition share
- ``cells/NAME``: the run directory of each cell, with ``cell.json``, how it ended
- ``comparison.json``, ``timings.json``, ``tables.md``, ``cells.csv``: written when all cells have ended
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rcdp_hpc.comparison.cells import Comparing
from rcdp_hpc.comparison.checks import (
    facts_from_json,
    facts_of,
    fitting_plan,
    refuse_cells_in_use,
    refuse_single_run,
    refuse_whole_comparison,
    refuse_without_groups,
)
from rcdp_hpc.comparison.data import data_name
from rcdp_hpc.comparison.finish import failed_cells, finish
from rcdp_hpc.comparison.plan import make_plan
from rcdp_hpc.comparison.results import FILE, TIMINGS_FILE, Comparison, LeftOut
from rcdp_hpc.comparison.settings import adds_seeds, recorded_settings, refuse_other_comparison, with_search
from rcdp_hpc.comparison.workers import CompareOptions, run_on_groups, run_one_cell
from rcdp_hpc.config import Config, to_tree
from rcdp_hpc.config.paths import absolute_path, with_absolute_paths
from rcdp_hpc.errors import RcdpError, StageFailedError, StoppedError
from rcdp_hpc.pipeline.array_data import Settings, with_data
from rcdp_hpc.pipeline.requirements import require_torch_for
from rcdp_hpc.pipeline.same_settings import refuse_different_settings
from rcdp_hpc.pipeline.stages import StageOptions, held
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.code_consent import code_named_by, record_user_modules
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agreed, run_on_root
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.leftovers import remove_leftovers, temporary_files
from rcdp_hpc.runtime.rundir import RunDirectory

log = logging.getLogger(__name__)

# What a restart puts aside.
RESULTS = ("plan.json", "data", "extractors", "cells", FILE, TIMINGS_FILE, "tables.md", "cells.csv", "report")


def compare(
    config: Settings,
    out: str | Path,
    comm: Any = None,
    cell: int = 0,
    restart: bool = False,
    allow_code: bool = False,
    *,
    data_only: bool = False,
    data: Any = None,
    progress: bool = False,
) -> Comparison | None:
    """Compare methods on one data set: every method of ``compare.methods`` on every seed or fold, arm and budget.

    All methods evaluate the same number of candidates, ``search.population`` x ``search.generations``. Validation rows
    choose, and the test rows are predicted once for each cell. Cells that are done are not repeated, one that was
    stopped or killed is resumed, and one that failed is tried again. ``compare.seeds`` may have further seeds than
    before; their cells are added.

    Each rank works on cells of its own, or groups of ``compare.group_ranks`` ranks do.

    Parameters
    ----------
    config : Config, mapping, str or Path
        As in `rcdp_hpc.run`, with the section ``[compare]``.
    out : str or Path
        Folder of the comparison.
    comm : Communicator or mpi4py.MPI.Intracomm, optional
        All ranks of the job, ``rcdp_hpc.connect()``. Default: this process alone.
    cell : int
        Run only this cell, counted from 1, on all ranks: for job arrays. 0 runs all cells.
    restart : bool
        Put earlier results aside and start again.
    allow_code : bool
        As in `rcdp_hpc.pipeline.stages.run_stages`.
    data_only : bool
        Only prepare what the cells share, before the tasks of a job array.
    data : tuple (x, y) or mapping, optional
        As in `rcdp_hpc.run`. Only rank 0 needs them; the first rank of each group gets a copy.
    progress : bool
        As in `rcdp_hpc.run`.

    Returns
    -------
    Comparison or None
        The content of ``comparison.json``, on every rank; None if other cells have not ended.

    Raises
    ------
    InputError
        If settings, data or a method cannot be used, or another job uses the folder. Nothing is computed then.
    StageFailedError
        If cells failed, after all others ended and the results were written. `read_comparison` returns them.
    StoppedError
        If a signal stopped the comparison. The same call resumes it.
    """
    with communicator_of(comm) as ranks:
        config, arrays = with_data(config, out, data, None, ranks)
        refuse_different_settings(ranks, to_tree(config))
        stage = StageOptions(False, allow_code, arrays=arrays, progress=progress)
        options = CompareOptions(stage, cell, data_only, restart)
        return _compared(with_absolute_paths(config), RunDirectory(absolute_path(out)), ranks, options)


def _compared(config: Config, run: RunDirectory, comm: Communicator, options: CompareOptions) -> Comparison | None:
    require_torch_for(("train",), comm)
    # Tasks of a job array share the folder. Each locks its own cell.
    whole = not options.cell
    refuse_without_groups(config, comm, together=not whole or config.compare.group_ranks != 1)
    run_on_root(comm, lambda: refuse_single_run(run))
    if not whole:
        run_on_root(comm, lambda: refuse_whole_comparison(run))
    with held(run, comm) if whole else nullcontext():
        comparing = run_on_root(comm, lambda: _begin(config, run, options))
        if whole:
            failure = run_on_groups(comparing, comm, options)
        else:
            failure = run_one_cell(comparing, comparing.plan.cell(options.cell), comm, options)
        _raise_first(comm, failure)
        if options.data_only:
            return None
        comparison = run_on_root(comm, lambda: finish(comparing))
        failed = run_on_root(comm, lambda: failed_cells(comparing, options.cell))
    if failed:
        raise agreed(StageFailedError(failed))
    return comparison


def _begin(config: Config, run: RunDirectory, options: CompareOptions) -> Comparing:
    """Refuse what cannot be compared; record the plan of a new comparison."""
    config = with_search(config)
    if not options.stage.allow_code:
        record_user_modules(code_named_by(config).values())
    remove_leftovers(temporary_files((run.path, run.path / "cells", run.path / "data")))
    if not options.cell:
        refuse_cells_in_use(run, make_plan(config))
    if options.restart:
        _put_aside(config, run, options.cell)
    comparing = _planned(config, run, options)
    if options.cell:
        comparing.plan.cell(options.cell)
    for one in comparing.plan.left_out:
        log.warning("%s is left out (arm '%s'): %s", one.method, one.arm, one.reason)
    run.write_config(config)
    return comparing


def _planned(config: Config, run: RunDirectory, options: CompareOptions) -> Comparing:
    """Return the recorded plan of a comparison; without cells so far, make and record a plan of these settings."""
    if run.plan.exists() and any(run.path.glob("cells/*/shards")):
        content = read_sealed(run.plan, "Start over with --restart.")
        # A task of a job array has a cell's number, which would be that of another cell with further seeds.
        refuse_other_comparison(run.path, content["settings"], config, further_seeds=not options.cell)
        if adds_seeds(content["settings"], config):
            log.info("the comparison is repeated with further seeds: compare.seeds = %s", config.compare.seeds)
            write_sealed(run.plan, {**content, "settings": recorded_settings(config)})
        plan = make_plan(config, tuple(LeftOut(**one) for one in content["left_out"]))
        return Comparing(config, run, plan, facts_from_json(content["facts"]))
    facts = facts_of(config, run, data_name(config, make_plan(config).cells[0]), options.stage.arrays)
    plan = fitting_plan(config, facts)
    left_out = [asdict(one) for one in plan.left_out]
    write_sealed(run.plan, {"settings": recorded_settings(config), "left_out": left_out, "facts": asdict(facts)})
    return Comparing(config, run, plan, facts)


def _put_aside(config: Config, run: RunDirectory, number: int) -> None:
    """Move earlier results to a folder ``before-...``: those of one cell, or all."""
    if number:
        cell = make_plan(config).cell(number)
        found = [run.cell(cell.name).path, run.path / FILE, run.path / TIMINGS_FILE]
    else:
        found = [run.path / name for name in RESULTS]
    found = [path for path in found if path.exists()]
    if not found:
        return
    with os_errors_explained(run.path):
        aside = Path(tempfile.mkdtemp(prefix="before-", dir=run.path))
        for path in found:
            shutil.move(path, aside / path.name)
    log.info("moved the earlier results to %s", aside)


def _raise_first(comm: Communicator, failure: RcdpError | None) -> None:
    """Raise the first error of all groups on all ranks; a stop only if no group has another error. Collective."""
    failures = [other for other in comm.allgather(failure) if other is not None]
    if not failures:
        return
    first = min(failures, key=lambda error: isinstance(error, StoppedError))
    if isinstance(first, StoppedError):
        first = StoppedError(
            f"the comparison was stopped by {signals.received_name()}; cells that are done are kept. Run the same "
            "command to continue."
        )
    raise agreed(first)
