"""Prediction with an exported ``.npz`` in this package, with all its checks of samples. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources import to_float
from rcdp_hpc.deploy.export import rcdp_predict
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model.answer_rule import AnswerRule
from rcdp_hpc.model.answers import Answers
from rcdp_hpc.model.fields import Fields
from rcdp_hpc.model.model_data import ModelData

EXPORT_AGAIN = "Restore the file from a backup, or export the model again."


class ExportedModel:
    """A model in an exported ``.npz`` (`rcdp_hpc.model.prediction_model.PredictionModel`).

    Parameters
    ----------
    model : rcdp_predict.Model
    where : str
        The file, for messages.

    Raises
    ------
    DataDamagedError
        If the facts about the training data are not as an export writes them.
    """

    batch_rows = rcdp_predict.BLOCK_ROWS
    code: Mapping[str, str] = {}
    has_disagreement = False

    def __init__(self, model: rcdp_predict.Model, where: str) -> None:
        self.model = model
        self.where = where
        self.classes: list[str] = model.classes
        self.raw_shape: tuple[int, ...] = model.sample_shape
        facts = Fields(where, model.facts, EXPORT_AGAIN)
        self.scale = facts.number("scale")
        self.data = ModelData.read(facts, model.sample_shape, raw=True)
        # The operations of the file apply the rule that it was exported with.
        self.rule = AnswerRule()
        self.kind = facts.text("probabilities") if "probabilities" in facts.content else "p"

    @classmethod
    def load(cls, path: Path) -> ExportedModel:
        """Read an exported ``.npz``.

        Raises
        ------
        InputError
            If there is no such file.
        DataDamagedError
            If it is truncated or altered, or not an exported model.
        """
        if not os.path.lexists(path):
            raise InputError(f"{path}: no such file.")
        try:
            return cls(rcdp_predict.load(path), str(path))
        except (ValueError, MemoryError) as error:
            raise DataDamagedError(f"{error}. {EXPORT_AGAIN}") from None

    def accepts(self, shape: tuple[int, ...], lengths: bool) -> bool:
        """Return whether samples of this shape fit; as `PredictionModel.accepts`."""
        if lengths and not self.model.varying_steps:
            return False
        axes = slice(1, None) if self.model.varying_steps else slice(None)
        return len(shape) == len(self.raw_shape) and shape[axes] == self.raw_shape[axes]

    def prepared(self, raw: NDArray[Any], lengths: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Return raw samples in the form of the shards; as `PredictionModel.prepared`."""
        if self.data.standardization is None:
            return to_float(raw, self.scale)
        return self.data.standardization.apply(raw, self.scale, lengths)

    def predicted(self, raw: NDArray[Any], prepared: NDArray[np.float32], lengths: NDArray[Any] | None) -> Answers:
        """Return the answers for raw samples; as `PredictionModel.predicted`."""
        probabilities, predicted = self.model.answers(raw, lengths)
        if self.rule.decides:  # thresholds or costs of this prediction
            return self.rule.answers(probabilities)
        return Answers(predicted, probabilities, probabilities)
