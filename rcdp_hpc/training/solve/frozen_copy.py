"""The run's own copy of the trained extractor of another model (``extractor.kind = "pretrained"``).

A run reads its copy, so that it can be resumed and moved after the other model changed or disappeared. The copy records
the SHA-256 of the model file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rcdp_hpc.config import Config, ExtractorSection
from rcdp_hpc.config.choices import EXTRACTORS, extractor_choice, is_user_class
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.fields import Fields, refuse_other_shapes
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.named_model import named_model
from rcdp_hpc.networks.ensemble import Ensemble
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.networks.frozen import frozen_state
from rcdp_hpc.runtime.code_consent import check_model_code
from rcdp_hpc.runtime.digests import file_sha256
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.user_code import load_named

PRETRAINED = "pretrained"
# Keys of [extractor] that describe any trained extractor.
DESCRIPTION = ("model_kind", "model_shape", "model_sha256")
RESTORE_MODEL = "extractor.model names this file: restore it from a backup, train it again, or name another model."
RESTORE_COPY = "Restore it from a backup, or start search and train again with --restart, with the model in its place."


@dataclass(frozen=True, eq=False)
class FrozenCopy:
    """A trained extractor, taken from a model file.

    Attributes
    ----------
    settings : dict
        Keys of ``[extractor]`` that describe it: `DESCRIPTION`, and those of its kind.
    state : dict of str to torch.Tensor
        State of the `rcdp_hpc.networks.frozen.FrozenExtractor`.
    scale : float
        Factor from raw values of the source to the values that the model was trained on.
    standardization : str
        How these were standardised, "none" if they were not.
    """

    settings: dict[str, Any]
    state: dict[str, Tensor]
    scale: float
    standardization: str

    def applied(self, config: Config) -> Config:
        """Return the configuration with the settings of the extractor."""
        return config.model_copy(update={"extractor": config.extractor.model_copy(update=self.settings)})

    @classmethod
    def of_model(cls, path: Path, allow_code: bool = False) -> FrozenCopy:
        """Return the extractor in a model file.

        Parameters
        ----------
        path : Path
            The file, or the run directory of the model.
        allow_code : bool
            Import a class that the file names.

        Raises
        ------
        InputError
            If there is no model, its extractor was not trained, or it names code that is not allowed.
        DataDamagedError
            If the file is damaged.
        """
        file = named_model("extractor.model", path)
        model = ModelFile.read(file, RESTORE_MODEL)
        digest = _digest(file)
        extractor = model.config.extractor
        _refuse_untrained(file, model)
        kind = extractor.kind
        chained = kind == PRETRAINED
        described = extractor if chained else extractor.model_copy(update={"model_kind": kind})
        if is_user_class(described.model_kind):
            name = described.model_kind
            check_model_code(EXTRACTORS.key, name, model.code, file, allow_code)
            load_named(EXTRACTORS.key, name, "class", "my_networks:Mine", working_directory=False)
        settings = {
            "model_kind": described.model_kind,
            "model_shape": list(model.sample_shape),
            "model_sha256": digest,
            **{name: getattr(extractor, name) for name in _keys_of(described.model_kind)},
        }
        state = dict(model.learned) if chained else frozen_state(model.weights)
        standardization = model.data.standardization
        copy = cls(settings, state, model.scale, "none" if standardization is None else standardization.method)
        copy.check(str(file), model.config, RESTORE_MODEL)
        return copy

    @classmethod
    def read(cls, path: Path) -> FrozenCopy:
        """Read a run's copy.

        Raises
        ------
        DataDamagedError
            If it is missing or damaged.
        """
        fields = Fields(str(path), checkpoint.load(path, RESTORE_COPY), RESTORE_COPY)
        settings = fields.json("settings", dict, "the settings of an extractor")
        section = fields.section(ExtractorSection, {"extractor": {"kind": PRETRAINED, **settings}}, "extractor")
        names = (*DESCRIPTION, *_keys_of(section.model_kind))
        if not settings.keys() >= set(names):
            fields.refuse("settings", f"the settings of an extractor: {', '.join(names)}")
        return cls(
            {name: getattr(section, name) for name in names},
            fields.tensors("state"),
            fields.number("scale"),
            fields.text("standardization"),
        )

    def write(self, path: Path) -> None:
        """Write the run's copy atomically."""
        content = {
            "settings": json.dumps(self.settings),
            "state": self.state,
            "scale": self.scale,
            "standardization": self.standardization,
        }
        checkpoint.save(path, content)

    def check(self, where: str, config: Config, remedy: str) -> None:
        """Raise a `DataDamagedError` if the state does not fit the settings."""
        config = self.applied(config)
        config = config.model_copy(update={"extractor": config.extractor.model_copy(update={"kind": PRETRAINED})})
        part = extractor_of(config, self.settings["model_shape"]).learned_part()
        assert part is not None
        refuse_other_shapes(f"{where}: extractor", self.state, part.state_dict(), remedy)


def frozen_state_of_run(config: Config, run: RunDirectory) -> dict[str, Tensor]:
    """Return the state of the frozen extractor, from the run's copy.

    Raises
    ------
    DataDamagedError
        If the copy is damaged, or that of another model.
    """
    copy = FrozenCopy.read(run.extractor)
    if copy.settings["model_sha256"] != config.extractor.model_sha256:
        raise DataDamagedError(
            f"{run.extractor}: its model is not the one of extractor.model_sha256 = {config.extractor.model_sha256}. "
            f"{RESTORE_COPY}"
        )
    copy.check(str(run.extractor), config, RESTORE_COPY)
    return copy.state


def _refuse_untrained(file: Path, model: ModelFile) -> None:
    """Raise an `InputError` if a model has no trained extractor, or several."""
    extractor = model.config.extractor
    if not (extractor.trained or extractor.kind == PRETRAINED):
        trained = [choice.name for choice in EXTRACTORS if extractor_choice(str(choice.name)).trained]
        raise InputError(
            f"extractor.model = {file}: this model has extractor.kind = {extractor.kind!r}, which is not trained by "
            f"gradients. Name a model with extractor.kind = {' or '.join(map(repr, trained))}, or a class of your own"
        )
    if model.config.parallel.replicas == "ensemble" and Ensemble.count(model.weights):
        raise InputError(
            f"extractor.model = {file}: an ensemble of networks (parallel.replicas = 'ensemble') has several "
            "extractors. Name a model that was trained with 'synchronised' or 'averaged'"
        )


def _keys_of(kind: str) -> tuple[str, ...]:
    """Return the keys of ``[extractor]`` that a kind of trained extractor uses."""
    return tuple(key.partition(".")[2] for key in extractor_choice(kind).keys)


def _digest(path: Path) -> str:
    with os_errors_explained(path):
        return file_sha256(path)
