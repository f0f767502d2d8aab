"""Comparing an exported file with its model, on test rows of the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.deploy.export.base import Probabilities
from rcdp_hpc.deploy.export.program import Program
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.trained_model import TrainedModel

# Test rows that are compared, and the largest difference of probabilities that is accepted.
CHECKED_ROWS = 1000
LARGEST_DIFFERENCE = 1e-5
# A reservoir that amplifies differences turns the rounding of float32 into more than that. A file may then be as far
# from the model as this factor times the distance of the model itself from the operations in float64, up to a limit.
ROUNDING_FACTOR = 4.0
LARGEST_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class TestRows:
    """Test samples in the numbers of the source, and their steps if they are series of unequal length."""

    samples: NDArray[Any]
    lengths: NDArray[np.int64] | None

    @classmethod
    def read(cls, shards: ShardReader, model: TrainedModel, program: Program) -> TestRows:
        """Return the first test rows of the shards."""
        rows = shards.read("test", 0, min(CHECKED_ROWS, shards.rows("test")))
        raw = raw_samples(rows.x, model.scale, model.data.standardization).astype(program.sample_dtype)
        varies = program.varying_steps and rows.length is not None
        return cls(raw, np.asarray(rows.length, np.int64) if varies else None)


@dataclass(frozen=True)
class Difference:
    """How far the predictions of a file are from those of a model.

    Attributes
    ----------
    largest : float
        Of the probabilities.
    other_labels : int
        Rows that the file gives another label.
    """

    largest: float
    other_labels: int

    def __str__(self) -> str:
        """Return both as text."""
        return f"largest difference of probabilities {self.largest:.1e}, {self.other_labels} other labels"


@dataclass(frozen=True)
class Check:
    """The comparison of an exported file with its model.

    Attributes
    ----------
    rows : int
        Test rows.
    difference : Difference
        From the model with all products in float32.
    own_rounding : float or None
        Largest difference of the probabilities of the model in float32 from the same operations in float64; None if the
        difference is small enough without it.
    rounding : str
        The setting by which the model computes with 16 bits, which the file does not; empty if it has none.
    rounded : Difference or None
        From the model with that rounding.
    """

    rows: int
    difference: Difference
    own_rounding: float | None = None
    rounding: str = ""
    rounded: Difference | None = None

    @property
    def passed(self) -> bool:
        """Whether the file predicts what the model in float32 predicts, up to the rounding of float32.

        Another label is then that of a class whose probability differs by less than twice the difference.
        """
        return self.difference.largest <= self.accepted

    @property
    def accepted(self) -> float:
        """The largest difference that is accepted."""
        return max(LARGEST_DIFFERENCE, min(LARGEST_ROUNDING, ROUNDING_FACTOR * (self.own_rounding or 0.0)))

    def __str__(self) -> str:
        """Return the result as a sentence."""
        found = f"{self.rows} test rows compared with the model: {self.difference}"
        if self.own_rounding is not None:
            found += f" (the rounding of float32 alone makes {self.own_rounding:.1e} in the model)"
        if self.rounded is None:
            return found
        return f"{found} (in float32; with its {self.rounding}, which the file does not have: {self.rounded})"


def checked(found: Probabilities, rows: TestRows, program: Program, model: TrainedModel, file: ModelFile) -> Check:
    """Return the comparison.

    Parameters
    ----------
    found : ndarray, shape (rows, classes)
        Probabilities of the exported file.
    rows : TestRows
    program : Program
        What the file was written from.
    model : TrainedModel
        The model in float32.
    file : ModelFile
        The model as it was trained.
    """
    expected = _expected(rows, model)
    check = Check(len(found), _difference(found, expected))
    if not check.passed:
        exact = program.run(rows.samples, rows.lengths, double=True)
        check = replace(check, own_rounding=_difference(exact, expected).largest)
    rounding = _rounding(file)
    if not rounding:
        return check
    return replace(check, rounding=rounding, rounded=_difference(found, _expected(rows, TrainedModel(file))))


def in_single_precision(file: ModelFile) -> ModelFile:
    """Return a model whose products are computed in float32, as those of its exports are."""
    config = file.config
    reservoir = config.reservoir.model_copy(update={"kernel": "dense-fp32"})
    extractor = config.extractor.model_copy(update={"precision": "fp32"})
    return replace(file, config=config.model_copy(update={"reservoir": reservoir, "extractor": extractor}))


def _rounding(file: ModelFile) -> str:
    reservoir, extractor = file.config.reservoir, file.config.extractor
    if reservoir.kind != "none" and reservoir.kernel.endswith(("bf16", "fp16")):
        return f"reservoir.kernel = {reservoir.kernel}"
    return "extractor.precision = bf16" if extractor.kind == "dictionary" and extractor.precision == "bf16" else ""


def _expected(rows: TestRows, model: TrainedModel) -> Probabilities:
    return model.answers(rows.samples, scaled=False, lengths=rows.lengths).probabilities


def _difference(found: NDArray[Any], expected: Probabilities) -> Difference:
    others = int((found.argmax(1) != expected.argmax(1)).sum())
    return Difference(float(np.abs(found - expected).max()), others)


def raw_samples(x: NDArray[np.float32], scale: float, standardization: Standardization | None) -> NDArray[np.float64]:
    """Return samples of the shards in the numbers of the source, up to rounding.

    Series that were standardised by themselves stay as they are: standardising them again changes nothing. A value that
    a mask channel marks as missing is NaN.
    """
    values = x.astype(np.float64)
    mask = () if standardization is None else standardization.mask
    if mask:
        values, missing = np.split(values, [-len(mask)], axis=-1)
        values[..., list(mask)] = np.where(missing > 0, np.nan, values[..., list(mask)])
    if standardization is not None and standardization.method not in ("none", "series"):
        values = values * standardization.deviation + standardization.center
    return values / scale
