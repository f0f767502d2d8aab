"""How new samples are read: as the model's training data were, with changes by the user."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path

from rcdp_hpc.config import DataSection, parse_config, parse_overrides
from rcdp_hpc.config.regular_files import refuse_special
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_data import READING_KEYS
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_record import changed_data_keys

log = logging.getLogger(__name__)

# What the model itself is built on: samples read in another way would not fit it.
FIXED = ("image_size", "image_channels", "image_background", "image_bits", "category_columns")


def model_and_reading(path: Path, overrides: Sequence[str] = ()) -> tuple[Path, DataSection | None]:
    """Return the model file of a run directory or of itself, and how new samples are read.

    Parameters
    ----------
    path : Path
        A run directory, or a ``model.pt``.
    overrides : sequence of str
        Settings of the form ``data.key=value``.

    Returns
    -------
    Path
        The model file.
    DataSection or None
        None if neither the run nor the user says anything: what the model file says counts.

    Raises
    ------
    InputError
        If there is nothing at `path`, or a setting is not one that decides how samples are read.
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
                f"--set {section}...: only keys of [data] that decide how samples are read can be changed."
            )
    for key in tree["data"]:
        _refuse_other_key(key)
    if reading is None:
        reading = ModelFile.read(model).data.reading or DataSection()
    changed = {"data": {**reading.model_dump(), **tree["data"]}}
    return model, parse_config(changed, where="with --set").data


def _reading_of(run: RunDirectory) -> DataSection:
    """Return how a run's own configuration reads samples; what was changed in it since the preparation is reported."""
    fixed = changed_data_keys(run, FIXED)
    if fixed:
        raise InputError(
            f"{run.config_file} was changed since the preparation: {', '.join(fixed)}. The model was trained with the "
            "earlier value, so prediction cannot use another: set it back."
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
        raise InputError(f"--set data.{key}: the model was trained with it, so prediction cannot change it.")
    if key in allowed:
        return
    near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.5)
    hint = f"; the nearest that does is data.{near[0]}" if near else f": {', '.join(allowed)} do"
    known = "does not change how samples are read" if key in DataSection.model_fields else "is not a known key"
    raise InputError(f"--set data.{key} {known}{hint}.")
