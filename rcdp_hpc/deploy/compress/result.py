"""What a compression did to a model: sizes and scores of the old and the new run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rcdp_hpc.model.complexity import Complexity, amount, complexity
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.rundir import RunDirectory

# Scores of the test rows in the table, by their name in the result of the evaluation.
SCORES = {"test accuracy": "accuracy", "test balanced accuracy": "balanced_accuracy", "test macro F1": "macro_f1"}


@dataclass(frozen=True)
class Measured:
    """Size and scores of one run.

    Attributes
    ----------
    size : Complexity
        Of its model, without a time.
    validation : float or None
        Accuracy of the validation rows; None if not recorded.
    scores : dict of str to float
        Scores of the test rows (`SCORES`); empty if the run is not evaluated.
    milliseconds : float or None
        Time of a sample as the evaluation measured it; None if it did not.
    """

    size: Complexity
    validation: float | None
    scores: dict[str, float]
    milliseconds: float | None = field(compare=False, default=None)

    @classmethod
    def of(cls, run: RunDirectory, allow_code: bool = False, own_code: Collection[str] = ()) -> Measured:
        """Return the values of a run with a model; other parameters as of `TrainedModel.load`."""
        tested = run.state("evaluate").get("result") or {}
        summary: dict[str, Any] = {}
        if tested and (run.report / "summary.json").exists():
            summary = read_sealed(run.report / "summary.json", "Evaluate the run again (`rcdp evaluate`).")
        return cls(
            size=complexity(TrainedModel.load(run.model, None, allow_code, own_code)),
            validation=(run.state("train").get("result") or {}).get("validation_accuracy"),
            scores={name: tested[name] for name in SCORES.values() if name in tested},
            milliseconds=summary.get("complexity", {}).get("milliseconds"),
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
        old, new = self.before.size, self.after.size
        table = [("", "before", "after", "")]
        for name, first, second in (
            ("trained parameters", old.trained, new.trained),
            ("numbers other than 0 in the prediction", old.nonzero, new.nonzero),
            ("bytes of the model file", old.bytes or 0, new.bytes or 0),
        ):
            table.append((name, f"{first:,}", f"{second:,}", _share(first, second)))
        for name, first, second in (
            ("FLOPs a sample", old.flops, new.flops),
            ("FLOPs a sample without zeros", old.sparse_flops, new.sparse_flops),
        ):
            table.append((name, amount(first).strip(), amount(second).strip(), _share(first, second)))
        first_time, second_time = (_text(one.milliseconds, "{:.3g}") for one in (self.before, self.after))
        table.append(("milliseconds a sample, one thread", first_time, second_time, ""))
        table.append(_score("validation accuracy", self.before.validation, self.after.validation))
        for title, name in SCORES.items():
            table.append(_score(title, self.before.scores.get(name), self.after.scores.get(name)))
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        return [
            f"{name:<{widths[0]}}  {first:>{widths[1]}}  {second:>{widths[2]}}  {more:>{widths[3]}}".rstrip()
            for name, first, second, more in table
        ]


def _share(old: float, new: float) -> str:
    return f"{100 * new / old:.3g} %" if old else ""


def _score(title: str, old: float | None, new: float | None) -> tuple[str, str, str, str]:
    change = "" if old is None or new is None else f"{100 * (new - old):+.2f} points"
    percent = [_text(None if score is None else 100 * score, "{:.2f} %") for score in (old, new)]
    return title, percent[0], percent[1], change


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
