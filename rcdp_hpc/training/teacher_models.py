"""The models that a training imitates (``loss.teacher``): their files, and whether they fit the data."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.named_model import named_model
from rcdp_hpc.model.trained_model import accepts
from rcdp_hpc.runtime.digests import file_sha256
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.rundir import RunDirectory

log = logging.getLogger(__name__)

TEACHER = "loss.teacher"


def teacher_digest(name: str, has_copy: bool) -> str:
    """Return the SHA-256 of a teacher; an empty text if it does not exist, and its probabilities are in the run."""
    try:
        file = named_model(TEACHER, name)
    except InputError as error:
        if not has_copy:
            raise
        log.info("%s. The run continues with the probabilities that it has", str(error).rstrip("."))
        return ""
    with os_errors_explained(file):
        return file_sha256(file)


def check_teachers(config: Config, shards: ShardReader, run: RunDirectory) -> None:
    """Raise an `InputError` if a teacher is missing or does not fit the shards, before anything is computed.

    A missing one is accepted if the run has its probabilities.
    """
    for name in config.loss.teacher:
        if teacher_digest(name, has_copy=(run.train / "teacher.pt").exists()):
            refuse_other_samples(name, ModelFile.read(named_model(TEACHER, name)), shards)


def refuse_other_classes(
    name: str, file: ModelFile, where: str, classes: Sequence[str], sample_shape: Sequence[int], lengths: bool
) -> None:
    """Raise an `InputError` if a teacher has other classes than the data, or reads samples of another shape.

    Parameters
    ----------
    name : str
        The entry of ``loss.teacher``, for messages.
    file : ModelFile
    where : str
        Names the data, for messages.
    classes : sequence of str
    sample_shape : sequence of int
        Shape of one sample.
    lengths : bool
        Whether samples are series of different lengths.
    """
    if file.classes != list(classes):
        raise InputError(
            f"loss.teacher = {name}: its classes are {_listed(file.classes)}, and those of {where} are "
            f"{_listed(classes)}: name a model of the same classes, in the same order"
        )
    if not accepts(file.sample_shape, tuple(sample_shape), lengths):
        raise InputError(
            f"loss.teacher = {name}: trained on samples of the shape {tuple(file.sample_shape)}, and those of {where} "
            f"have {tuple(sample_shape)}: name a model of such samples"
        )


def refuse_other_samples(name: str, file: ModelFile, shards: ShardReader) -> None:
    """Raise an `InputError` if a teacher has other classes than the shards, or reads other samples.

    Parameters
    ----------
    name : str
        The entry of ``loss.teacher``, for messages.
    file : ModelFile
    shards : ShardReader
    """
    where = str(shards.directory)
    refuse_other_classes(name, file, where, shards.classes, shards.sample_shape, shards.layout.has_lengths)
    ours = Standardization.from_json(shards.index.get("standardization"))
    if file.scale != shards.scale or not _same(file.data.standardization, ours):
        raise InputError(
            f"loss.teacher = {name}: trained on samples that were scaled or standardised in another way than those of "
            f"{where}: train it on the same shards, or prepare both with data.standardize = 'none'"
        )
    if file.shards != shards.digest:
        log.warning(
            "loss.teacher = %s was trained on other shards: if it has seen validation or test samples of this run, the "
            "accuracies of this run are too high",
            name,
        )


def _same(one: Standardization | None, other: Standardization | None) -> bool:
    """Return whether two maps give the same values."""
    texts = [json.dumps(map_.to_json()) if map_ is not None and map_.changes else "" for map_ in (one, other)]
    return texts[0] == texts[1]


def _listed(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:5])
    return f"{shown} and {len(classes) - 5} more" if len(classes) > 5 else shown
