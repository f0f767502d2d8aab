"""What a compression did to a model: sizes and scores of the old and the new run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.runtime.rundir import RunDirectory


@dataclass(frozen=True)
class Measured:
    """Size and scores of one run.

    Attributes
    ----------
    numbers, nonzero : int
        Stored numbers of the model, and those that are not 0.
    bytes : int
        Of the model file.
    validation, test, macro_f1 : float or None
        Accuracy of the validation and of the test rows, and macro F1 of the test rows; None if not measured.
    """

    numbers: int
    nonzero: int
    bytes: int
    validation: float | None
    test: float | None
    macro_f1: float | None

    @classmethod
    def of(cls, run: RunDirectory) -> Measured:
        """Return the values of a run with a model."""
        file = ModelFile.read(run.model)
        tensors = [value for part in (file.weights, file.learned) for value in part.values()]
        numbers = [value for value in tensors if value.is_floating_point()]
        tested = run.state("evaluate").get("result") or {}
        return cls(
            numbers=sum(value.numel() for value in numbers),
            nonzero=sum(int(value.count_nonzero()) for value in numbers),
            bytes=run.model.stat().st_size,
            validation=(run.state("train").get("result") or {}).get("validation_accuracy"),
            test=tested.get("accuracy"),
            macro_f1=tested.get("macro_f1"),
        )


@dataclass(frozen=True)
class CompressResult:
    """The result of a compression.

    Attributes
    ----------
    to : Path
        The new run directory.
    before, after : Measured
    """

    to: Path
    before: Measured
    after: Measured

    def lines(self) -> list[str]:
        """Return the lines of a table with both models."""
        table = [("", "before", "after", "")]
        for name, old, new in (
            ("stored numbers", self.before.numbers, self.after.numbers),
            ("not zero", self.before.nonzero, self.after.nonzero),
            ("bytes of the file", self.before.bytes, self.after.bytes),
        ):
            table.append((name, f"{old:,}", f"{new:,}", f"{100 * new / old:.3g} %" if old else ""))
        for name, first, second in (
            ("validation accuracy", self.before.validation, self.after.validation),
            ("test accuracy", self.before.test, self.after.test),
            ("test macro F1", self.before.macro_f1, self.after.macro_f1),
        ):
            change = "" if first is None or second is None else f"{100 * (second - first):+.2f} points"
            table.append((name, _percent(first), _percent(second), change))
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        return [
            f"{name:<{widths[0]}}  {old:>{widths[1]}}  {new:>{widths[2]}}  {more:>{widths[3]}}".rstrip()
            for name, old, new, more in table
        ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
