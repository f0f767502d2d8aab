"""What the records of a comparison show, read without its lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcdp_hpc.comparison.plan import Plan, PlannedCell, make_plan
from rcdp_hpc.comparison.records import CellRecord, read_record
from rcdp_hpc.comparison.results import LeftOut
from rcdp_hpc.config import parse_config
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.rundir import RunDirectory


@dataclass(frozen=True)
class ComparisonState:
    """The cells of a comparison and how they ended.

    Attributes
    ----------
    plan : Plan
    records : list of (PlannedCell, CellRecord or None)
        None for a cell that has not ended.
    """

    plan: Plan
    records: list[tuple[PlannedCell, CellRecord | None]]

    def count(self, status: str) -> int:
        """Return how many cells ended with a status."""
        return sum(record is not None and record.status == status for _, record in self.records)

    @property
    def is_complete(self) -> bool:
        """Whether every cell has ended."""
        return all(record is not None for _, record in self.records)


def read_state(run: RunDirectory) -> ComparisonState:
    """Return the state of a comparison; raises a `DataDamagedError` if one of its records is damaged."""
    content: dict[str, Any] = read_sealed(run.plan, "Start over with rcdp compare --restart.")
    # Not config.toml, which the user may have edited.
    config = parse_config(content["settings"], str(run.plan))
    plan = make_plan(config, tuple(LeftOut(**one) for one in content["left_out"]))
    return ComparisonState(plan, [(cell, read_record(run.cell(cell.name))) for cell in plan.run_cells])


def comparison_state(run: RunDirectory) -> str:
    """Return the state of a comparison in a few words."""
    state = read_state(run)
    failed = state.count("failed")
    return f"{state.count('done')} of {len(state.records)} cells done" + (f", {failed} failed" if failed else "")
