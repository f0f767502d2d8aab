"""What prediction needs of a model, whether torch computes it or an exported file. This module needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.answer_rule import AnswerRule
from rcdp_hpc.model.answers import Answers
from rcdp_hpc.model.model_data import ModelData


class PredictionModel(Protocol):
    """A model that predicts raw samples.

    Attributes
    ----------
    classes : list of str
    raw_shape : tuple of int
        Shape of one raw sample.
    scale : float
        Factor from raw values of the source to training values.
    data : ModelData
        Facts about the training data.
    where : str
        The file, for messages.
    code : mapping of str to str
        SHA-256 of each module whose classes the file names.
    batch_rows : int
        Samples that are computed at once.
    rule : AnswerRule
        Calibration, priors, thresholds and costs.
    kind : str
        What the probabilities are, for headers: `AnswerRule.column`.
    has_disagreement : bool
        Whether its answers have a disagreement of members.
    """

    classes: list[str]
    raw_shape: tuple[int, ...]
    scale: float
    data: ModelData
    rule: AnswerRule
    has_disagreement: bool

    @property
    def kind(self) -> str:
        """What the probabilities are, for headers."""

    @property
    def where(self) -> str:
        """The file, for messages."""

    @property
    def code(self) -> Mapping[str, str]:
        """SHA-256 of each module whose classes the file names."""

    @property
    def batch_rows(self) -> int:
        """Samples that are computed at once."""

    def accepts(self, shape: tuple[int, ...], lengths: bool) -> bool:
        """Return whether samples of this shape fit the model; `lengths`: whether they are padded series."""

    def prepared(self, raw: NDArray[Any], lengths: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Return raw samples in the form of the shards: scaled, filled and standardised."""

    def predicted(self, raw: NDArray[Any], prepared: NDArray[np.float32], lengths: NDArray[Any] | None) -> Answers:
        """Return the answers for samples that are given raw and `prepared`."""
