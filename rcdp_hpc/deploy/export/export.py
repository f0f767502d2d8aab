"""`rcdp export`: a trained model in a file that runs without this package, checked against the model."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config.choices.export_formats import EXPORT_FORMATS, export_format_of, export_suffixes
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.deploy.export.base import Probabilities, Writer
from rcdp_hpc.deploy.export.lowering import lower, refuse_user_classes
from rcdp_hpc.deploy.export.program import Program
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.user_code import load_choice

log = logging.getLogger(__name__)

# Test rows of the check, and the largest difference of probabilities that it accepts.
CHECKED_ROWS = 1000
LARGEST_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Rounded:
    """The difference that the rounding of a model to 16 bits makes, which its exports do not have.

    Attributes
    ----------
    what : str
        The setting that rounds.
    largest_difference : float
        Of the probabilities of the file and of the model.
    other_labels : int
        Rows that the file gives another label.
    """

    what: str
    largest_difference: float
    other_labels: int


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes
    ----------
    files : list of Path
        The exported model, then what was written next to it.
    rows : int
        Test rows that were compared; 0 without a check.
    largest_difference : float
        Of the probabilities of the file and of the model.
    other_labels : int
        Rows that the file gives another label.
    rounded : Rounded or None
        The same compared with the model as it was trained, if its states are computed with fewer than 32 bits.
    """

    files: list[Path]
    rows: int = 0
    largest_difference: float = 0.0
    other_labels: int = 0
    rounded: Rounded | None = None

    @property
    def summary(self) -> str:
        """The result of the check as a sentence."""
        if not self.rows:
            return "not checked against the model"
        found = (
            f"{self.rows} test rows: largest difference of probabilities {self.largest_difference:.1e}, "
            f"{self.other_labels} other labels than the model"
        )
        if self.rounded is None:
            return found
        return (
            f"{found} in float32. The model was trained with {self.rounded.what}, which the file does not have: "
            f"largest difference {self.rounded.largest_difference:.1e}, {self.rounded.other_labels} other labels"
        )


@dataclass(frozen=True, eq=False)
class TestRows:
    """Raw test samples, and their steps if they are series of unequal length."""

    samples: NDArray[Any]
    lengths: NDArray[np.int64] | None


def export(path: Path, to: Path, check: bool = True) -> Export:
    """Write a trained model to a file whose suffix is the format, and compare it with the model on test rows.

    Parameters
    ----------
    path : Path
        A run directory or a ``model.pt``. The test rows are those of its run.
    to : Path
        The file to write.
    check : bool
        Compare predictions; without it no test rows are needed.

    Raises
    ------
    InputError
        If there is no such format or no model, the model cannot be exported, or test rows are missing.
    StageFailedError
        If the file gives other predictions than the model. It is then removed.
    """
    writer = _writer(to)
    run, file = _model_of(path)
    refuse_user_classes(file)
    shards = _shards_of(run, file)
    if check and shards is None:
        raise InputError(
            f"{path}: the check needs the test rows that the model was not trained on, and {run.shards} does not hold "
            "the shards of this model. Export from the run directory of the training, or add --no-check."
        )
    model = TrainedModel(in_single_precision(file))
    program = lower(model, _varies(file, shards))
    writer.check(program)
    rows = _test_rows(model, shards, program) if check and shards is not None else None
    result = Export(writer.write(program, file, to))
    if rows is None:
        return result
    try:
        checked = _compared(result, writer, model, rows, file)
        _refuse_differences(checked, to)
    except BaseException:
        for written in result.files:
            written.unlink(missing_ok=True)
        raise
    return checked


def in_single_precision(file: ModelFile) -> ModelFile:
    """Return a model whose products are computed in float32, as those of its exports are."""
    config = file.config
    reservoir = config.reservoir.model_copy(update={"kernel": "dense-fp32"})
    extractor = config.extractor.model_copy(update={"precision": "fp32"})
    return replace(file, config=config.model_copy(update={"reservoir": reservoir, "extractor": extractor}))


def _writer(to: Path) -> Writer:
    choice = export_format_of(to.suffix)
    if choice is None:
        raise InputError(f"{to}: models are exported to files whose names end in {export_suffixes()}.")
    writer: Writer = load_choice(EXPORT_FORMATS, str(choice.name))()
    return writer


def _model_of(path: Path) -> tuple[RunDirectory, ModelFile]:
    """Return the run and the model of a run directory or a model file."""
    run = RunDirectory(path if path.is_dir() else path.absolute().parent.parent)
    file = run.model if path.is_dir() else path
    if not file.exists():
        raise InputError(f"{file}: there is no trained model yet. Train one first (`rcdp train --out {run.path}`).")
    return run, ModelFile.read(file)


def _shards_of(run: RunDirectory, file: ModelFile) -> ShardReader | None:
    """Return the shards that a model was trained on; None if its run does not have them."""
    if not (run.shards / "index.json").exists():
        return None
    shards = ShardReader(run.shards)
    return shards if shards.digest == file.shards else None


def _varies(file: ModelFile, shards: ShardReader | None) -> bool:
    """Return whether a model reads series of unequal length; without shards, whether it can."""
    if shards is not None:
        return bool(shards.layout.has_lengths)
    ranges = file.data.ranges
    orders = file.config.reservoir.sequence in ("rows", "windows") and len(file.sample_shape) == 2
    return (
        ranges is not None and ranges.kind == "series" and orders and file.config.extractor.kind in ("none", "kernels")
    )


def _test_rows(model: TrainedModel, shards: ShardReader, program: Program) -> TestRows:
    rows = shards.read("test", 0, min(CHECKED_ROWS, shards.rows("test")))
    raw = raw_samples(rows.x, model.scale, model.data.standardization).astype(program.sample_dtype)
    return TestRows(raw, rows.length.astype(np.int64) if program.varying_steps and rows.length is not None else None)


def raw_samples(x: NDArray[np.float32], scale: float, standardization: Standardization | None) -> NDArray[np.float64]:
    """Return samples of the shards in the numbers of the source, up to rounding.

    Series that were standardised by themselves stay as they are: standardising them again changes nothing.
    """
    values = x.astype(np.float64)
    if standardization is not None and standardization.method not in ("none", "series"):
        values = values * standardization.deviation + standardization.center
    return values / scale


def _rounding(file: ModelFile) -> str:
    """Return the setting by which a model computes with 16 bits; empty if it has none."""
    reservoir, extractor = file.config.reservoir, file.config.extractor
    if reservoir.kind != "none" and reservoir.kernel.endswith(("bf16", "fp16")):
        return f"reservoir.kernel = {reservoir.kernel}"
    return "extractor.precision = bf16" if extractor.kind == "dictionary" and extractor.precision == "bf16" else ""


def _compared(result: Export, writer: Writer, model: TrainedModel, rows: TestRows, file: ModelFile) -> Export:
    path = result.files[0]
    found = writer.predict(path, rows.samples, rows.lengths)
    if found is None:
        log.warning("%s: not checked, because what runs such files is not installed", path)
        return result
    difference, others = _difference(found, model, rows)
    what = _rounding(file)
    rounded = Rounded(what, *_difference(found, TrainedModel(file), rows)) if what else None
    return replace(result, rows=len(found), largest_difference=difference, other_labels=others, rounded=rounded)


def _difference(found: Probabilities, model: TrainedModel, rows: TestRows) -> tuple[float, int]:
    """Return the largest difference of probabilities from those of a model, and the number of other labels."""
    expected = model.probabilities(rows.samples, scaled=False, lengths=rows.lengths)
    return float(np.abs(found - expected).max()), int((found.argmax(1) != expected.argmax(1)).sum())


def _refuse_differences(checked: Export, to: Path) -> None:
    if not checked.largest_difference <= LARGEST_DIFFERENCE or checked.other_labels:
        raise StageFailedError(
            f"{to}: gives other predictions than the model ({checked.summary}; expected at most "
            f"{LARGEST_DIFFERENCE:g} and 0). It was removed. To keep such a file, add --no-check."
        )
