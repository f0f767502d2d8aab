"""``cell.json``: how a cell of a comparison ended, in the cell's run directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rcdp_hpc.comparison.methods.base import Outcome
from rcdp_hpc.comparison.plan import PlannedCell
from rcdp_hpc.comparison.results import CellResult, CellTiming, Status
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import TIMING, read_sealed, write_sealed
from rcdp_hpc.runtime.rundir import RunDirectory

REMEDY = "Remove it, and run rcdp compare again."


@dataclass(frozen=True)
class CellRecord:
    """How a cell ended.

    Attributes
    ----------
    status : {"done", "failed"}
    reason : str
        Why it failed.
    outcome : Outcome or None
        None if it failed.
    ranks : int
        Ranks that worked on it.
    utilisation : dict
        As in `CellTiming`.
    """

    status: Status
    reason: str = ""
    outcome: Outcome | None = None
    ranks: int = 1
    utilisation: dict[str, Any] = field(default_factory=dict)

    def result(self, cell: PlannedCell) -> CellResult:
        """Return the result of a cell for ``comparison.json``."""
        place = {name: getattr(cell, name) for name in ("name", "method", "arm", "budget", "seed", "fold")}
        if self.outcome is None:
            return CellResult(**place, status="failed", reason=self.reason)
        outcome = self.outcome
        measures = {
            "accuracy": float(outcome.test["accuracy"]),
            "macro_f1": float(outcome.test["macro_f1"]),
            "balanced_accuracy": balanced_accuracy(outcome.test),
            "validation_accuracy": float(outcome.validation_accuracy),
            "evaluations": outcome.evaluations,
            "parameters": outcome.parameters,
        }
        return CellResult(**place, status="done", measures=measures, chosen=outcome.chosen, test=outcome.test)

    def timing(self) -> CellTiming | None:
        """Return the times of a cell; None if it failed."""
        if self.outcome is None:
            return None
        seconds = {stage: float(value) for stage, value in self.outcome.timing.items()}
        return CellTiming(seconds, sum(seconds.values()), self.ranks, self.utilisation)


def balanced_accuracy(test: dict[str, Any]) -> float:
    """Return the mean recall of the classes with test samples."""
    recalls = [recall for recall in test["recall"] if recall is not None]
    return sum(recalls) / len(recalls) if recalls else 0.0


def write_record(run: RunDirectory, cell: PlannedCell, record: CellRecord) -> None:
    """Write ``cell.json``."""
    outcome = None if record.outcome is None else record.outcome.as_json()
    seconds = {} if outcome is None else outcome.pop("timing")
    write_sealed(
        run.cell_record,
        {
            "cell": cell.name,
            "status": record.status,
            "reason": record.reason,
            "outcome": outcome,
            TIMING: {"seconds": seconds, "ranks": record.ranks, "utilisation": record.utilisation},
        },
    )


def read_record(run: RunDirectory) -> CellRecord | None:
    """Return how a cell ended; None if it has not.

    Raises
    ------
    DataDamagedError
        If the record is damaged.
    """
    path = run.cell_record
    if not path.exists():
        return None
    content = read_sealed(path, REMEDY)
    try:
        timing, outcome = content[TIMING], content["outcome"]
        if outcome is not None:
            outcome = Outcome.from_json({**outcome, "timing": timing["seconds"]})
        elif content["status"] != "failed":
            raise KeyError("outcome")
        return CellRecord(content["status"], content["reason"], outcome, timing["ranks"], timing["utilisation"])
    except (KeyError, TypeError):
        raise DataDamagedError(f"{path}: not the record of a cell. {REMEDY}") from None
