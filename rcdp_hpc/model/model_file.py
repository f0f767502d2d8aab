"""The model file: written and read here only, so that all its content is checked in one place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, get_args

import torch

from rcdp_hpc.config import (
    NETWORK_SECTIONS,
    TRAINING_SECTIONS,
    Config,
    LossSection,
    ReservoirSection,
    Section,
    to_tree,
)
from rcdp_hpc.config.choices import LOSSES, is_user_class
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.standardization import raw_shape
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.model.answer_rule import AnswerRule, read_rule, stored_rule
from rcdp_hpc.model.fields import Fields
from rcdp_hpc.model.model_data import DataContent, ModelData
from rcdp_hpc.model.packed_fields import Packed, packed, saves_bytes, unpacked
from rcdp_hpc.model.packing import Packing, Quantized
from rcdp_hpc.networks.losses import has_own_link
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.kept_steps import input_features
from rcdp_hpc.reservoir.matrix_files import arrays_of, matrices_of, read_matrices
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.runtime.code_consent import code_named_by, digests_of

Role = Literal["model", "baseline"]
# What turns scores into probabilities: the loss of the settings, or the softmax, which needs no code of the user.
Link = Literal["loss", "softmax"]

# Sections that files of earlier versions lack; their defaults are what those versions did.
LATER_SECTIONS = ("pruning", "prediction")

TRAIN_AGAIN = "Restore the file from a backup, or train again with --restart."
# Tensors by name: the state of a network or extractor.
Tensors = dict[str, torch.Tensor]


class Content(DataContent):
    """The fields of a model file. Tensors of `packed` are not in `weights`, `learned` and `matrices`."""

    role: Role
    settings: str
    link: Link
    classes: list[str]
    sample_shape: list[int]
    scale: float
    shards: str
    weights: Tensors
    learned: Tensors
    matrices: Tensors
    code: dict[str, str]
    rows: int | None
    packed: NotRequired[Packed]
    prediction: NotRequired[str]


@dataclass(frozen=True, eq=False)
class ModelFile:
    """The content of a model file: everything that prediction needs.

    Attributes
    ----------
    config : Config
        Settings of the network and its training (`TRAINING_SECTIONS`); the other sections have their defaults. The
        matrices of the reservoir are generated from its seed. A loss of the user's own is replaced by the default if
        the softmax turns its scores into probabilities: prediction needs no more of a loss.
    classes : list of str
        Class names.
    sample_shape : tuple of int
        Shape of one sample.
    scale : float
        Factor from raw values of the source to training values.
    shards : str
        Digest of the shards that the model was trained on.
    data : ModelData
        Facts about the training data: columns, standardisation, ranges, how files are read.
    weights : dict
        State of the readout network: tensors by name.
    learned : dict
        State of an extractor that is fitted before the training (a dictionary, or the biases of kernels); often empty.
    matrices : ReservoirMatrices or None
        Matrices that the user provided.
    code : dict of str to str
        SHA-256 of each module whose classes the settings name.
    where : str
        The file, for messages.
    quantized : dict of str to Quantized
        Tensors that the file has in 8 bits: by their name in `weights`, where they are ``codes * scale`` in float32;
        those of other fields as ``learned/NAME`` and ``matrices/NAME``.
    rows : int or None
        Training rows that are not synthetic; None in files of earlier versions.
    rule : AnswerRule
        Calibration, priors, thresholds and costs. In files of earlier versions there are none.
    """

    config: Config
    classes: list[str]
    sample_shape: tuple[int, ...]
    scale: float
    shards: str
    data: ModelData
    weights: Tensors
    learned: Tensors
    matrices: ReservoirMatrices | None
    code: dict[str, str]
    where: str = "the model"
    quantized: dict[str, Quantized] = field(default_factory=dict)
    rows: int | None = None
    rule: AnswerRule = field(default_factory=AnswerRule)

    @classmethod
    def read(cls, path: Path, remedy: str = TRAIN_AGAIN, role: Role = "model") -> ModelFile:
        """Read a model file without running code that it names.

        Parameters
        ----------
        path : Path
        remedy : str
            What to do if it is damaged: a sentence for the end of the message.
        role : {"model", "baseline"}
            The expected content: the trained model, or the ridge readout for comparison.

        Raises
        ------
        DataDamagedError
            If the file is damaged, or a field does not have the form in which `write` writes it.
        StageFailedError
            If the tensors of a packed file need more memory than is available.
        """
        return cls.of(Fields(str(path), checkpoint.load(path, remedy), remedy), role)

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of one raw sample: without the mask channels of missing values, if the model has any."""
        return raw_shape(self.data.standardization, self.sample_shape)

    @classmethod
    def of(cls, fields: Fields, role: Role = "model") -> ModelFile:
        """Return the content of a model file from its fields, which may be stored in a file of another format.

        Raises
        ------
        DataDamagedError, StageFailedError
            As `read`.
        """
        fields, quantized = unpacked(fields)
        stored = fields.text("role")
        if stored not in get_args(Role):
            fields.refuse("role", f"one of {', '.join(get_args(Role))}")
        if stored != role:
            raise DataDamagedError(
                f"{fields.where}: contains the {stored} instead of the {role}: files were exchanged. {fields.remedy}"
            )
        settings = fields.json("settings", dict, "the settings of a model")
        config = _with_link(_config(fields, settings), _link(fields))
        classes, sample_shape = fields.texts("classes"), fields.shape("sample_shape")
        scale = fields.number("scale")
        if not classes:
            fields.refuse("classes", "a list with at least one class")
        if scale <= 0:
            fields.refuse("scale", "positive")
        data = ModelData.read(fields, sample_shape)
        return cls(
            config=config,
            classes=classes,
            sample_shape=sample_shape,
            scale=scale,
            shards=fields.text("shards"),
            data=data,
            weights=fields.tensors("weights"),
            learned=fields.tensors("learned"),
            matrices=_matrices(fields, config.reservoir, sample_shape),
            code=_code(fields),
            where=fields.where,
            quantized=quantized,
            rows=fields.integer("rows", least=1) if fields.content.get("rows") is not None else None,
            rule=_rule(fields, len(classes)),
        )

    @staticmethod
    def write(
        path: Path,
        config: Config,
        shards: ShardReader,
        weights: Mapping[str, torch.Tensor],
        learned: Mapping[str, torch.Tensor] | None = None,
        role: Role = "model",
        *,
        packing: Packing | None = None,
        quantized: Mapping[str, Quantized] | None = None,
        rule: AnswerRule | None = None,
    ) -> None:
        """Write a model file atomically.

        Parameters
        ----------
        path : Path
        config : Config
            Settings of the training. If ``reservoir.matrices`` is set, the file gets a copy of the matrices.
        shards : ShardReader
            The shards that the model was trained on.
        weights : mapping of str to torch.Tensor
            State of the readout network.
        learned : mapping of str to torch.Tensor, optional
            State of an extractor that is fitted before the training.
        role : {"model", "baseline"}
        packing : Packing, optional
            How tensors are stored. Default: as they are, or without their zeros if that makes the file clearly smaller.
        quantized : mapping of str to Quantized, optional
            Tensors that are stored in these 8-bit codes; names as in the attribute `quantized`.
        rule : AnswerRule, optional
            Calibration, priors, thresholds and costs; default: none.

        Raises
        ------
        ValueError
            If a quantised tensor does not fit the tensor of its name.
        """
        tree, reservoir = to_tree(config), config.reservoir
        settings = {section: tree[section] for section in TRAINING_SECTIONS}
        code = named_code(config)
        own_link = config.readout.trained and has_own_link(config.loss)
        if not own_link:
            code.pop(LOSSES.key, None)
        matrices: Tensors = {}
        if reservoir.matrices:
            given = read_matrices(reservoir.matrices, reservoir.nodes, _inputs(reservoir, tuple(shards.sample_shape)))
            matrices = {name: torch.from_numpy(array) for name, array in arrays_of(given).items()}
        content: Content = {
            "role": role,
            "settings": json.dumps(settings),
            "link": "loss" if own_link or not is_user_class(config.loss.kind) else "softmax",
            "classes": list(shards.classes),
            "sample_shape": list(shards.sample_shape),
            "scale": float(shards.scale),
            "shards": shards.digest,
            **ModelData.contents(shards.index),
            "weights": {name: value.cpu() for name, value in weights.items()},
            "learned": {name: value.cpu() for name, value in (learned or {}).items()},
            "matrices": matrices,
            "code": {**shards.index.get("code", {}), **digests_of(code.values())},
            "rows": _original_rows(shards.index),
            "prediction": json.dumps(stored_rule(rule or AnswerRule())),
        }
        checkpoint.save(path, _as_stored(content, packing, quantized or {}))

    def save(self, path: Path) -> None:
        """Write the content as a model file, atomically, in place of an earlier file.

        A loss of the user's own is replaced by the default if prediction does not need it, as `config` says.
        """
        tree = to_tree(self.config)
        given = {} if self.matrices is None else arrays_of(self.matrices)
        content: Content = {
            "role": "model",
            "settings": json.dumps({section: tree[section] for section in TRAINING_SECTIONS}),
            "link": "loss",
            "classes": list(self.classes),
            "sample_shape": list(self.sample_shape),
            "scale": self.scale,
            "shards": self.shards,
            **self.data.stored(),
            "weights": self.weights,
            "learned": self.learned,
            "matrices": {name: torch.from_numpy(array) for name, array in given.items()},
            "code": self.code,
            "rows": self.rows,
            "prediction": json.dumps(stored_rule(self.rule)),
        }
        checkpoint.save(path, _as_stored(content, None, self.quantized), keep=1)


def _original_rows(index: Mapping[str, Any]) -> int:
    """Return the number of training rows that are not synthetic."""
    train = index["splits"]["train"]
    return int(train["rows"]) - int(sum(train["synthetic_counts"]))


def _as_stored(content: Content, packing: Packing | None, quantized: Mapping[str, Quantized]) -> dict[str, Any]:
    """Return the fields of a file, with packed tensors if asked for, or if that makes the file clearly smaller."""
    tensors = {"weights": content["weights"], "learned": content["learned"], "matrices": content["matrices"]}
    if packing is None and not quantized and not saves_bytes(tensors):
        return {**content}
    rest, block = packed(tensors, packing or Packing(), quantized)
    return {**content, **rest, "packed": block}


def named_code(config: Config) -> dict[str, str]:
    """Return the names ``module:Class`` that prediction imports, by key: those of the network, and the loss.

    A loss without a link of its own is not in the configuration of a `ModelFile`, and so prediction does not import it.
    """
    names = code_named_by(config).items()
    return {key: name for key, name in names if key.partition(".")[0] in NETWORK_SECTIONS or key == LOSSES.key}


def _config(fields: Fields, settings: Mapping[str, Any]) -> Config:
    """Return the configuration in a model file. Rules between sections were checked before the training."""
    sections: dict[str, Any] = {}
    for name in TRAINING_SECTIONS:
        kind = Config.model_fields[name].annotation
        assert isinstance(kind, type)
        assert issubclass(kind, Section)
        is_missing = name in LATER_SECTIONS and name not in settings
        sections[name] = kind() if is_missing else fields.section(kind, settings, name)
    return Config.model_construct(**sections)


def _link(fields: Fields) -> Link:
    """Return the link in a model file. Files written before losses had links lack it, and used the softmax."""
    if "link" not in fields.content:
        return "softmax"
    stored = fields.text("link")
    if stored not in get_args(Link):
        fields.refuse("link", f"one of {', '.join(get_args(Link))}")
    return stored  # type: ignore[return-value]


def _with_link(config: Config, link: Link) -> Config:
    if link == "loss" or not is_user_class(config.loss.kind):
        return config
    return config.model_copy(update={"loss": LossSection()})


def _matrices(fields: Fields, reservoir: ReservoirSection, sample_shape: tuple[int, ...]) -> ReservoirMatrices | None:
    tensors = fields.tensors("matrices")
    if bool(reservoir.matrices) != bool(tensors):
        fields.refuse("matrices", "present exactly if the settings have reservoir.matrices")
    if not tensors:
        return None
    arrays = {name: value.numpy() for name, value in tensors.items()}
    try:
        return matrices_of(arrays, reservoir.nodes, _inputs(reservoir, sample_shape), fields.where)
    except InputError as error:
        raise DataDamagedError(f"{error}. {fields.remedy}") from None


def _rule(fields: Fields, classes: int) -> AnswerRule:
    """Return the rule of the answers. Files written before there was one lack it."""
    if "prediction" not in fields.content:
        return AnswerRule()
    content = fields.json("prediction", dict, "the calibration and the rule of the answers")
    return Fields(fields.where, {"prediction": content}, fields.remedy).converted(
        "prediction", lambda stored: read_rule(stored, classes)
    )


def _code(fields: Fields) -> dict[str, str]:
    code: dict[str, str] = fields.field("code", dict, "a table of digests")
    if not all(type(text) is str for pair in code.items() for text in pair):
        fields.refuse("code", "a table of digests")
    return code


def _inputs(reservoir: ReservoirSection, sample_shape: tuple[int, ...]) -> int:
    """Return the number of inputs of a neuron of the first reservoir per step."""
    _, features = Sequencer.of(reservoir).shape(sample_shape)
    return input_features(reservoir, features)
