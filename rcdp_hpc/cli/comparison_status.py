"""Lines of ``rcdp status`` about a comparison."""

from __future__ import annotations

from rcdp_hpc.cli.comparison_state import ComparisonState, read_state
from rcdp_hpc.cli.progress import stage_progress
from rcdp_hpc.cluster.queue import describe_jobs
from rcdp_hpc.comparison.plan import PlannedCell
from rcdp_hpc.comparison.records import CellRecord
from rcdp_hpc.comparison.results import FILE, read_comparison, read_timings
from rcdp_hpc.comparison.tables import text_lines
from rcdp_hpc.config import STAGES
from rcdp_hpc.runtime.lock_file import current_holder
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import shell_word


def comparison_lines(run: RunDirectory) -> list[str]:
    """Return a line for each cell, the tables if all cells have ended, and the next command."""
    state = read_state(run)
    holder = current_holder(run.lock)
    lines = [f"in use by {holder}" if holder else "no job works on all of its cells"]
    width = max(len(cell.name) for cell, _ in state.records)
    lines += [f"  {cell.name:<{width}}  {_cell_line(run, cell, record)}" for cell, record in state.records]
    lines += [f"  {one.method} is left out (arm '{one.arm}'): {one.reason}" for one in state.plan.left_out]
    jobs, alive = describe_jobs(run)
    lines += ["jobs", *jobs] if jobs else []
    if state.is_complete and (run.path / FILE).exists():
        lines += ["", *text_lines(read_comparison(run.path), read_timings(run.path))]
    return [*lines, _next(run, state, bool(holder or alive))]


def _cell_line(run: RunDirectory, cell: PlannedCell, record: CellRecord | None) -> str:
    own = run.cell(cell.name)
    busy = current_holder(own.path / "cell.lock") is not None
    if record is not None and record.outcome is not None:
        accuracy = 100 * record.outcome.test["accuracy"]
        return f"done: test accuracy {accuracy:.2f} %, macro F1 {record.outcome.test['macro_f1']:.4f}"
    if record is not None and not busy:
        return f"failed: {record.reason}"
    states = {stage: own.state(stage) for stage in STAGES if stage != "prepare"}
    running = next((stage for stage, state in states.items() if state.get("status") == "running"), None)
    if busy:
        progress = stage_progress(own, running) if running else None
        return f"running{': ' + running if running else ''}" + (f", {progress.with_time}" if progress else "")
    return "was stopped or killed, and will be resumed" if any(states.values()) else "not started"


def _next(run: RunDirectory, state: ComparisonState, busy: bool) -> str:
    command = f"rcdp compare --out {shell_word(run.path)}"
    if busy:
        return f"next: wait, or follow {shell_word(run.log)}"
    if state.count("failed"):
        return f"next: remove the causes of the failures, and try these cells again: {command}"
    if not (state.is_complete and (run.path / FILE).exists()):
        return f"next: {command}   (on several ranks: mpirun -n 2 {command})"
    page = run.report / "index.html"
    return f"next: see {shell_word(page if page.exists() else run.path / 'tables.md')}"
