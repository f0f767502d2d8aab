"""How new samples are read: like the training data, with the user's changes."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path

from rcdp_hpc.config import DataSection, PredictionSection, parse_config, parse_overrides
from rcdp_hpc.config.data import FILLS
from rcdp_hpc.config.regular_files import refuse_special
from rcdp_hpc.deploy.open_model import reading_of
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_data import READING_KEYS
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_record import changed_data_keys

log = logging.getLogger(__name__)

# Keys that the model depends on: samples read with other values would not fit it.
FIXED = ("image_size", "image_channels", "image_background", "image_bits", "category_columns")


def model_and_reading(path: Path, overrides: Sequence[str] = ()) -> tuple[Path, DataSection | None]:
    """Return the model file at a path, and the settings that new samples are read with.

    Parameters
    ----------
    path : Path
        A run directory, a ``model.pt`` or an exported ``.npz``.
    overrides : sequence of str
        Settings of the form ``data.key=value``.

    Returns
    -------
    Path
        The model file.
    DataSection or None
        None if neither the run nor the user has any: those in the model file count.

    Raises
    ------
    InputError
        If `path` does not exist, or a setting does not decide how samples are read.
    """
    if not path.exists():
        raise InputError(f"{path}: no such run directory or model file.")
    refuse_special(path)
    run = RunDirectory(path)
    model = run.model if path.is_dir() else path
    reading = _reading_of(run) if path.is_dir() and run.config_file.exists() else None
    if not overrides:
        return model, reading
    tree = parse_overrides(overrides)
    for section in tree:
        if section != "data":
            raise InputError(
                f"--set {section}...: prediction accepts only keys of [data] that decide how samples are read, and "
                "prediction.priors, prediction.thresholds and prediction.costs."
            )
    for key in tree["data"]:
        _refuse_other_key(key)
    if reading is None:
        reading = reading_of(model) or DataSection()
    changed = parse_config({"data": {**reading.model_dump(), **tree["data"]}}, where="with --set").data
    if changed.missing in FILLS and reading.missing in FILLS and changed.missing != reading.missing:
        raise InputError(
            f"--set data.missing={changed.missing}: the model fills missing values by {reading.missing!r}, with values "
            "of its training rows, which prediction cannot change."
        )
    return model, changed


def stated_prediction(overrides: Sequence[str]) -> tuple[list[str], PredictionSection]:
    """Return the settings that do not begin with ``prediction.``, and the section of those that do.

    Raises
    ------
    InputError
        If a value is not accepted, or the calibration is set, which only a training fits.
    """
    own = [override for override in overrides if override.lstrip().startswith("prediction.")]
    others = [override for override in overrides if override not in own]
    tree = parse_overrides(own)
    if "calibration" in tree.get("prediction", {}):
        raise InputError("--set prediction.calibration: a calibration is fitted at the end of a training.")
    return others, parse_config(tree, where="with --set").prediction


def _reading_of(run: RunDirectory) -> DataSection:
    """Return the reading settings of a run's configuration; log those that changed since the preparation."""
    fixed = changed_data_keys(run, FIXED)
    if fixed:
        raise InputError(
            f"{run.config_file} was changed since the preparation: {', '.join(fixed)}. The model depends on the "
            "earlier value: restore it."
        )
    changed = changed_data_keys(run, READING_KEYS)
    if changed:
        log.warning(
            "%s was changed since the preparation: %s. New samples are read with the changed values",
            *(run.config_file, ", ".join(changed)),
        )
    return run.config().data


def _refuse_other_key(key: str) -> None:
    allowed = [name for name in READING_KEYS if name not in FIXED]
    if key in FIXED:
        raise InputError(
            f"--set data.{key}: the model depends on its value in training, which prediction cannot change."
        )
    if key in allowed:
        return
    near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean data.{near[0]}?" if near else f"; these do: {', '.join(allowed)}."
    problem = "does not change how samples are read" if key in DataSection.model_fields else "is not a known key"
    raise InputError(f"--set data.{key} {problem}{hint}")
