"""The validation accuracy at every size, as files of a run."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from rcdp_hpc.runtime.digests import write_sealed
from rcdp_hpc.runtime.files import write_text
from rcdp_hpc.training.solve.size_curve import SizeCurve

# Files in the folder of the training.
CURVE_TABLE = "sizes.csv"
CURVE_FILE = "sizes.json"
COLUMNS = ("left", "features", "weights", "sparsity", "validation_accuracy", "loss")
# Validation accuracy that the smallest size named in the log may lose.
WITHIN = 0.001


def groups_left(keep: float, groups: int) -> int:
    """Return the number of features or nodes that are left of `groups`, at least one."""
    return max(1, round(keep * groups))


@dataclass(frozen=True)
class CurveRecord:
    """An elimination, with what its figures belong to.

    Attributes
    ----------
    curve : SizeCurve
    unit : {"features", "nodes"}
        What a group of features is.
    outputs : int
        Outputs of the readout: weights of each feature.
    penalty : float
        Per row, of the elimination.
    chosen : int
        Groups that are left in the new model.
    """

    curve: SizeCurve
    unit: str
    outputs: int
    penalty: float
    chosen: int

    def rows(self) -> list[tuple[int, int, int, float, float, float]]:
        """Return the rows of the table, the largest size first; columns as `COLUMNS`.

        The loss is how much all removals so far raised the penalised squared error of the training rows, a sum over
        the rows.
        """
        curve = self.curve
        total, size = curve.groups.shape
        raised = [0.0, *curve.losses.cumsum().tolist()]
        rows = []
        for removed, loss in enumerate(raised):
            features = (total - removed) * size
            sparsity = removed / total
            rows.append(
                (total - removed, features, features * self.outputs, sparsity, float(curve.accuracies[removed]), loss)
            )
        return rows

    def write(self, folder: Path) -> None:
        """Write the curve as a table and, with the order of removal, as JSON, both atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.rows():
            writer.writerow([*row[:3], *(f"{value:.6g}" for value in row[3:])])
        write_text(folder / CURVE_TABLE, text.getvalue())
        curve = self.curve
        write_sealed(
            folder / CURVE_FILE,
            {
                "unit": self.unit,
                "outputs": self.outputs,
                "penalty": self.penalty,
                "chosen": self.chosen,
                "groups": len(curve.groups),
                "features_of_group": curve.groups.shape[1],
                "removed": curve.order.tolist(),
                "losses": curve.losses.tolist(),
                "validation_accuracy": curve.accuracies.tolist(),
            },
        )

    def lines(self) -> list[str]:
        """Return the accuracy at a few sizes, and the smallest one that loses little, for the log."""
        total = len(self.curve.groups)
        counts = sorted({max(1, round(share * total)) for share in (1, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)}, reverse=True)
        few = self.curve.smallest(WITHIN)
        shown = [f"{count}: {100 * self.curve.accuracy(count):.2f} %" for count in counts]
        return [
            f"accuracy on validation by {self.unit} left: {', '.join(shown)}",
            f"{few} of {total} {self.unit} (keep = {few / total:.3g}) lose at most {100 * WITHIN:g} points of it",
        ]
