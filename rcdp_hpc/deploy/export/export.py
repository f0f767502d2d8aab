"""`rcdp export`: a trained model in a file that runs without this package, checked against the model."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from rcdp_hpc.config.choices.export_formats import EXPORT_FORMATS
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.deploy.card import model_card
from rcdp_hpc.deploy.export.base import Writer
from rcdp_hpc.deploy.export.check import Check, TestRows, checked, in_single_precision
from rcdp_hpc.deploy.export.lowering import lower, refuse_user_classes
from rcdp_hpc.deploy.export.program import Program
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.model.answer_rule import AnswerRule
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.runtime.files import write_text
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.user_code import load_choice

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes
    ----------
    files : list of Path
        The exported model, what was written next to it, and the model card.
    check : Check or None
        The comparison with the model; None without one.
    """

    files: list[Path]
    check: Check | None = None

    @property
    def rows(self) -> int:
        """Test rows that were compared; 0 without a check."""
        return 0 if self.check is None else self.check.rows

    @property
    def largest_difference(self) -> float | None:
        """The largest difference of probabilities from the model in float32; None without a check."""
        return None if self.check is None else self.check.difference.largest

    @property
    def other_labels(self) -> int | None:
        """The rows that the file gives another label than the model; None without a check."""
        return None if self.check is None else self.check.difference.other_labels

    @property
    def summary(self) -> str:
        """The result of the check as a sentence."""
        return "not checked against the model" if self.check is None else str(self.check)


def export(path: Path, to: Path, check: bool = True, calibrated: bool = True) -> Export:
    """Write a trained model to a file whose suffix is the format, and compare it with the model on test rows.

    The model card is written next to it, with ``.md`` after its name.

    Parameters
    ----------
    path : Path
        A run directory or a ``model.pt``. The test rows are those of its run.
    to : Path
        The file to write.
    check : bool
        Compare predictions; without it no test rows are needed.
    calibrated : bool
        Whether the file has the calibration of the model; without it, its probabilities are those of the model itself.

    Raises
    ------
    InputError
        If there is no such format or no model, the model cannot be exported, or test rows are missing.
    StageFailedError
        If the file gives other predictions than the model. What was written is then removed.
    """
    writer = _writer(to)
    run, file = _model_of(path)
    if not calibrated:
        file = _uncalibrated(file, writer)
    refuse_user_classes(file)
    shards = _shards_of(run, file)
    if check and shards is None:
        raise InputError(
            f"{path}: the check needs the test rows of the training data, and {run.shards} does not hold the shards "
            "of this model. Export from the run directory of the training, or add --no-check."
        )
    model = TrainedModel(in_single_precision(file))
    program = lower(_without_rule(model) if writer.holds_rule else model, _varies(file, shards))
    writer.check(program)
    rows = TestRows.read(shards, model, program) if check and shards is not None else None
    to.parent.mkdir(parents=True, exist_ok=True)
    earlier = set(to.parent.iterdir()) - {to}
    files = writer.write(program, file, to)
    try:
        result = None if rows is None else _checked(writer, to, rows, program, model, file)
        card = to.with_name(to.name + ".md")
        write_text(card, model_card(file, None if shards is None else run, to))
    except BaseException:
        for written in set(files) - earlier:  # what other exports in the folder use stays
            written.unlink(missing_ok=True)
        raise
    return Export([*files, card], result)


def _uncalibrated(file: ModelFile, writer: Writer) -> ModelFile:
    if writer.holds_rule:
        raise InputError(f"{writer.name}: the file is a copy of the model and its calibration: omit --uncalibrated.")
    if file.rule.priors is not None and file.rule.calibration is not None:
        raise InputError("--uncalibrated: the priors of this model change calibrated probabilities; they need them.")
    return replace(file, rule=replace(file.rule, calibration=None))


def _without_rule(model: TrainedModel) -> TrainedModel:
    """Return the model as `lower` takes it if the file itself holds the rule of the answers."""
    return TrainedModel(replace(model.file, rule=AnswerRule()))


def _writer(to: Path) -> Writer:
    choice = EXPORT_FORMATS.of_suffix(to.suffix)
    if choice is None:
        raise InputError(f"{to}: models are exported to files whose names end in {EXPORT_FORMATS.suffixes_text()}.")
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
    config, ranges = file.config, file.data.ranges
    if ranges is None or ranges.kind != "series" or len(file.sample_shape) != 2:
        return False
    return config.reservoir.sequence in ("rows", "windows") and config.extractor.kind in ("none", "kernels")


def _checked(
    writer: Writer, to: Path, rows: TestRows, program: Program, model: TrainedModel, file: ModelFile
) -> Check | None:
    """Return the comparison with the model; None, with a warning, if what runs such files is not installed."""
    found = writer.predict(to, rows.samples, rows.lengths)
    if found is None:
        log.warning("%s: not checked, because what runs such files is not installed", to)
        return None
    result = checked(found, rows, program, model, file)
    if not result.passed:
        raise StageFailedError(
            f"{to}: gives other predictions than the model ({result}; expected at most {result.accepted:.1e}). It "
            "was removed. To keep such a file, add --no-check."
        )
    return result
