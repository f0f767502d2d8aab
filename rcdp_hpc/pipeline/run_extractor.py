"""Settings and copy of the trained extractor that a run freezes (``extractor.kind = "pretrained"``)."""

from __future__ import annotations

import logging
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import MODEL_EXTRACTORS, is_user_class
from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.named_model import named_model
from rcdp_hpc.runtime.code_consent import require_consent
from rcdp_hpc.runtime.rundir import RunDirectory

if TYPE_CHECKING:
    from rcdp_hpc.training.solve.frozen_copy import FrozenCopy

log = logging.getLogger(__name__)

_REMEDY = "Choose another --out, or start search and train again with --restart."


def use_run_extractor(
    config: Config, run: RunDirectory, stage: str, discarded: Collection[str] = (), allow_code: bool = False
) -> Config:
    """Return the configuration with the settings of the extractor of ``extractor.model``, if it is to be frozen.

    The preparation only reads the model, if torch is installed. The first stage that needs the extractor copies it into
    the run directory. Later stages check that the model is still the same; it may be missing.

    Parameters
    ----------
    config : Config
    run : RunDirectory
    stage : str
    discarded : collection of str
        Stages whose results a restart is about to put aside. They do not bind the run to its copy.
    allow_code : bool
        Import a class that the model file names.

    Raises
    ------
    InputError
        If the model cannot be used with these settings, or differs from the one that the run started with.
    DataDamagedError
        If the model, or the copy, is damaged.
    """
    pretrained = config.extractor.kind == "pretrained"
    is_bound = any(run.folder(one).exists() for one in ("search", "train") if one not in discarded)
    if not pretrained:
        if stage in ("search", "train") and not is_bound:
            run.extractor.unlink(missing_ok=True)
        return config
    if find_spec("torch") is None:  # the preparation runs without
        return config
    from rcdp_hpc.training.solve.frozen_copy import FrozenCopy

    if stage == "evaluate":  # it uses the trained model
        return _with_recorded_settings(config, run, allow_code)
    if is_bound and run.extractor.exists():
        copy = FrozenCopy.read(run.extractor)
        _refuse_other_model(config, run, copy)
        _require_consent(copy.settings["model_kind"], config, run.extractor, allow_code)
        return copy.applied(config)
    model = Path(config.extractor.model)
    _refuse_own_model(model, run)
    copy = FrozenCopy.of_model(model, allow_code)
    if stage in ("search", "train"):
        _refuse_other_values(config, run, copy)
        run.extractor.unlink(missing_ok=True)  # that of results which are put aside
        copy.write(run.extractor)
    return copy.applied(config)


def with_model_settings(config: Config, run: RunDirectory | None = None) -> Config:
    """Return the configuration with the settings of a frozen extractor, for estimates that need its shape.

    Parameters
    ----------
    config : Config
    run : RunDirectory, optional
        A run whose copy is read if it has one; otherwise the model is read.

    Raises
    ------
    InputError, DataDamagedError
        As `use_run_extractor`.
    """
    if config.extractor.kind != "pretrained":
        return config
    from rcdp_hpc.training.solve.frozen_copy import FrozenCopy

    if run is None or not run.extractor.exists():
        return FrozenCopy.of_model(absolute_path(config.extractor.model)).applied(config)
    copy = FrozenCopy.read(run.extractor)
    _require_consent(copy.settings["model_kind"], config, run.extractor, allow_code=False)
    return copy.applied(config)


def _with_recorded_settings(config: Config, run: RunDirectory, allow_code: bool) -> Config:
    """Return the configuration with the settings of the extractor that the run has recorded."""
    recorded = run.config().extractor if run.config_file.exists() else config.extractor
    if recorded.kind != config.extractor.kind:
        return config
    _require_consent(recorded.model_kind, config, run.config_file, allow_code)
    extractor = recorded.model_copy(update={"model": config.extractor.model})
    return config.model_copy(update={"extractor": extractor})


def _require_consent(kind: str, config: Config, where: Path, allow_code: bool) -> None:
    """Refuse the class of an extractor that only a file of the run names, unless its module is the user's own."""
    if is_user_class(kind) and kind != config.extractor.model_kind and not allow_code:
        require_consent(MODEL_EXTRACTORS.key, kind, where)


def _refuse_other_model(config: Config, run: RunDirectory, copy: FrozenCopy) -> None:
    """Raise an `InputError` if the model has changed since the run copied its extractor; it may be missing."""
    from rcdp_hpc.runtime.digests import file_sha256
    from rcdp_hpc.runtime.files import os_errors_explained

    model = Path(config.extractor.model)
    try:
        file = named_model("extractor.model", model)
    except InputError as error:
        log.info("%s. The run continues with its copy, %s", str(error).rstrip("."), run.extractor.name)
        return
    with os_errors_explained(file):
        digest = file_sha256(file)
    if digest != copy.settings["model_sha256"]:
        raise InputError(
            f"extractor.model = {model}: {file} is not the model that {run.path} was started with (its copy is "
            f"{run.extractor.name}). Restore the file, or: {_REMEDY}"
        )


def _refuse_own_model(model: Path, run: RunDirectory) -> None:
    if model.resolve() in (run.path.resolve(), run.model.resolve()):
        raise InputError(
            f"extractor.model = {model}: this run writes that model itself. Name the model of another run directory"
        )


def _refuse_other_values(config: Config, run: RunDirectory, copy: FrozenCopy) -> None:
    """Raise an `InputError` if the samples of the shards are scaled in another way than those of the model."""
    from rcdp_hpc.data.shards.reader import ShardReader
    from rcdp_hpc.data.standardization import Standardization

    shards = ShardReader(run.shards, verify=False)
    standardization = Standardization.from_json(shards.index.get("standardization"))
    method = "none" if standardization is None else standardization.method
    for what, theirs, ours in (
        ("standardised by data.standardize", copy.standardization, method),
        ("multiplied by", f"{copy.scale:g}", f"{shards.scale:g}"),
    ):
        if theirs != ours:
            raise InputError(
                f"extractor.model = {config.extractor.model}: trained on samples that were {what} {theirs}, and those "
                f"of {run.shards} are {what} {ours}: prepare both from the same kind of source, with the same settings"
            )
