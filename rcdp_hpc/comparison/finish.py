"""The end of a comparison: results of all cells, tables, and a message about the cells that failed."""

from __future__ import annotations

import logging
from typing import Any

from rcdp_hpc.comparison.cells import Comparing
from rcdp_hpc.comparison.data import data_directory, data_name, data_seconds
from rcdp_hpc.comparison.plan import repeats_by
from rcdp_hpc.comparison.records import read_record
from rcdp_hpc.comparison.report.page import try_to_write_comparison_report
from rcdp_hpc.comparison.results import FILE, Comparison, MethodInfo, Timings, write_results
from rcdp_hpc.comparison.settings import recorded_settings
from rcdp_hpc.comparison.summaries import paired_tests, summarise
from rcdp_hpc.comparison.tables import text_lines, write_tables
from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import method_choice
from rcdp_hpc.data.shards.index import load_index
from rcdp_hpc.evaluation.stage import versions

log = logging.getLogger(__name__)

# Failed cells that a message names.
MOST_NAMED = 5


def finish(comparing: Comparing) -> Comparison | None:
    """Write the results and log the tables if all cells have ended; otherwise return None."""
    cells = comparing.plan.run_cells
    records = {cell.name: read_record(comparing.run.cell(cell.name)) for cell in cells}
    ended = [cell for cell in cells if records[cell.name] is not None]
    if len(ended) < len(cells):
        log.info("%d of %d cells have ended", len(ended), len(cells))
        return None
    results = [record.result(cell) for cell in cells if (record := records[cell.name]) is not None]
    config, plan = comparing.config, comparing.plan
    names = [name for name in plan.methods if any(cell.method == name for cell in cells)]
    comparison = Comparison(
        settings=recorded_settings(config),
        methods=[MethodInfo(name, (one := method_choice(name)).meaning, one.source) for name in names],
        left_out=list(plan.left_out),
        repeats=repeats_by(config),
        arms=list(config.compare.arms),
        budgets=_budgets(config),
        data=_data(comparing),
        cells=results,
        summaries=summarise(plan, results),
        tests=paired_tests(plan, results, comparing.run),
        versions=versions(),
    )
    timed = {name: record.timing() for name, record in records.items() if record is not None}
    timings = Timings(
        {name: timing for name, timing in timed.items() if timing is not None}, data_seconds(comparing.run)
    )
    write_results(comparing.run.path, comparison, timings)
    for line in text_lines(comparison, timings):
        log.info("%s", line)
    paths = write_tables(comparing.run.path, comparison, timings)
    log.info("wrote %s", ", ".join(map(str, (comparing.run.path / FILE, *paths))))
    try_to_write_comparison_report(comparing.run)
    return comparison


def _budgets(config: Config) -> dict[str, Any]:
    search, seconds = config.search, config.compare.seconds
    candidates = {"evaluations": {"population": search.population, "generations": search.generations}}
    return {**candidates, **({"seconds": seconds} if seconds else {})}


def _data(comparing: Comparing) -> dict[str, Any]:
    """Return what the first data set of the comparison is."""
    name = data_name(comparing.config, comparing.plan.run_cells[0])
    index = load_index(data_directory(comparing.run, name).shards)
    return {
        "description": index["source"]["description"],
        "kind": index["kind"],
        "sample_shape": index["sample_shape"],
        "classes": index["classes"],
        "rows": {split: part["rows"] for split, part in index["splits"].items()},
    }


def failed_cells(comparing: Comparing, number: int = 0) -> str:
    """Return a message about the cells that failed, or about one of them; empty if none did."""
    cells = [cell for cell in comparing.plan.run_cells if number in (0, cell.number)]
    records = {cell.name: read_record(comparing.run.cell(cell.name)) for cell in cells}
    failed = [(name, one.reason) for name, one in records.items() if one is not None and one.outcome is None]
    if not failed:
        return ""
    shown = "; ".join(f"{name}: {reason.rstrip('.')}" for name, reason in failed[:MOST_NAMED])
    more = f"; and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
    return f"{len(failed)} of {len(cells)} cells failed: {shown}{more}. The same command tries them again."
