"""The trained model: from raw samples to class probabilities in one process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.data.sources import to_float
from rcdp_hpc.errors import CandidateError, DataDamagedError, InputError
from rcdp_hpc.model.answers import Answers, joined
from rcdp_hpc.model.fields import refuse_other_shapes
from rcdp_hpc.model.model_file import TRAIN_AGAIN, ModelFile, named_code
from rcdp_hpc.model.model_size import check_sizes
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.ensemble import Ensemble
from rcdp_hpc.networks.learned_source import load_learned
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.networks.readouts.solved_ensemble import SolvedEnsemble
from rcdp_hpc.runtime.code_consent import check_model_code
from rcdp_hpc.runtime.user_code import load_named

log = logging.getLogger(__name__)

# BLAS sums the products of fewer rows in another order. With this many, the result for a sample does not depend on how
# many other samples are predicted with it.
FEWEST_ROWS = 32
WITHOUT_BASELINE = "Remove the file to evaluate without the ridge baseline, or train again with --restart."


class TrainedModel:
    """A reservoir and its trained readout, for prediction in one process.

    Parameters
    ----------
    file : ModelFile
        Settings and weights.
    device : torch.device, optional
        Where states and scores are computed; default: the CPU.

    Attributes
    ----------
    classes, sample_shape, raw_shape, scale, shards, data
        As in `ModelFile`.
    rule : AnswerRule
        As in `ModelFile`; it may be replaced by one with other priors, thresholds or costs.
    has_disagreement : bool
        Whether answers have a disagreement of members.

    Raises
    ------
    DataDamagedError
        If the weights do not fit the settings.
    StageFailedError
        If the reservoir needs more memory than is available.
    """

    def __init__(self, file: ModelFile, device: torch.device | None = None) -> None:
        self.file = file
        self.shards = file.shards
        self.data = file.data
        self.classes = file.classes
        self.sample_shape = file.sample_shape
        self.raw_shape = file.raw_shape
        self.scale = file.scale
        self.rule = file.rule
        self.device = device or torch.device("cpu")
        try:
            check_sizes(file)
            self.reservoir = make_source(file.config, file.sample_shape, self.device, file.matrices)
            self.network = self._network().to(self.device)
        except (InputError, CandidateError) as error:
            if named_code(file.config):
                raise  # the error may concern the user's class
            raise DataDamagedError(f"{file.where}: its settings do not fit its samples: {error}") from None
        load_learned(self.reservoir, file.learned)
        refuse_other_shapes(f"{file.where}: weights", file.weights, self.network.state_dict(), TRAIN_AGAIN)
        self.network.load_state_dict(file.weights)
        self.network.eval()
        self.has_disagreement = isinstance(self.network, Ensemble | SolvedEnsemble)

    def _network(self) -> Network:
        file = self.file

        def build() -> Network:
            return build_network(file.config, file.sample_shape, self.reservoir, len(file.classes), seed=0)

        members = Ensemble.count(file.weights) if file.config.parallel.replicas == "ensemble" else 0
        return Ensemble([build() for _ in range(members)]) if members else build()

    @classmethod
    def load(
        cls, path: Path, device: torch.device | None = None, allow_code: bool = False, own_code: Collection[str] = ()
    ) -> TrainedModel:
        """Read a model file.

        Parameters
        ----------
        path : Path
        device : torch.device, optional
            As in the class.
        allow_code : bool
            Import all classes that the file names.
        own_code : collection of str
            Names ``module:Class`` in the caller's configuration, which may be imported.

        Raises
        ------
        InputError
            If there is no such file, or it names code that is not allowed (`rcdp_hpc.runtime.code_consent`).
        DataDamagedError
            If it is damaged.
        """
        if not os.path.lexists(path):
            raise InputError(
                f"{path}: there is no trained model yet. Train one first (`rcdp train --out {path.parent.parent}`)."
            )
        file = ModelFile.read(path)
        for key, name in named_code(file.config).items():
            if name not in own_code:
                check_model_code(key, name, file.code, path, allow_code)
                load_named(key, name, "class", "my_networks:Mine", working_directory=False)
        return cls(file, device)

    @staticmethod
    def load_baseline(path: Path, model: TrainedModel) -> Callable[[torch.Tensor], NDArray[np.float32]] | None:
        """Return a function that computes the class scores of the ridge baseline from states.

        None if there is no baseline, or, with a warning, if it was fitted to the states of another reservoir.

        Raises
        ------
        DataDamagedError
            If the file is damaged.
        """
        if not os.path.lexists(path):
            return None
        file = ModelFile.read(path, WITHOUT_BASELINE, role="baseline")
        if file.config.reservoir != model.reservoir.settings or file.shards != model.shards:
            log.warning("%s: fitted to another reservoir or other shards than the model: not compared with it", path)
            return None
        network = build_readout(file.config, model.reservoir.feature_shape, len(model.classes), seed=0).to(model.device)
        refuse_other_shapes(f"{path}: weights", file.weights, network.state_dict(), WITHOUT_BASELINE)
        network.load_state_dict(file.weights)

        def scores(states: torch.Tensor) -> NDArray[np.float32]:
            with torch.no_grad():
                return np.asarray(network(states.float()).cpu().numpy())

        return scores

    def blocks(
        self, samples: NDArray[Any], labels: NDArray[Any], lengths: NDArray[Any] | None
    ) -> Iterator[tuple[torch.Tensor, NDArray[Any]]]:
        """Yield states and labels of samples from the shards, one block of rows at a time."""
        for rows, states in self._blocks(samples, True, lengths):
            yield states, labels[rows]

    def _blocks(
        self, samples: NDArray[Any], scaled: bool, lengths: NDArray[Any] | None
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        size = self.reservoir.batch_rows
        for start in range(0, len(samples), size):
            rows = slice(start, start + size)
            yield rows, self.states(samples[rows], scaled, None if lengths is None else lengths[rows])

    def answers(self, samples: NDArray[Any], scaled: bool, lengths: NDArray[Any] | None = None) -> Answers:
        """Return the answers for samples; parameters and errors as of `probabilities`."""
        self._refuse_other_shape(samples, scaled, lengths)
        parts = [self.answers_of(states) for _, states in self._blocks(samples, scaled, lengths)]
        return joined(parts, len(self.classes))

    def probabilities(
        self, samples: NDArray[Any], scaled: bool, lengths: NDArray[Any] | None = None
    ) -> NDArray[np.float32]:
        """Return class probabilities of the model itself, before calibration.

        Parameters
        ----------
        samples : ndarray, shape (rows, *sample_shape)
            Raw samples, or samples from the shards.
        scaled : bool
            Whether the samples are scaled and standardised, as in the shards.
        lengths : ndarray of int, shape (rows,), optional
            Steps of each series; None if no sample is padded.

        Returns
        -------
        ndarray, shape (rows, classes), float32
            By the link of the loss that the network was trained with, for most losses the softmax of its scores.

        Raises
        ------
        InputError
            If the shape of the samples does not fit the model.
        """
        self._refuse_other_shape(samples, scaled, lengths)
        parts = [self.probabilities_of(states) for _, states in self._blocks(samples, scaled, lengths)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)

    def _refuse_other_shape(self, samples: NDArray[Any], scaled: bool, lengths: NDArray[Any] | None) -> None:
        expected = self.sample_shape if scaled else self.raw_shape
        if not accepts(expected, samples.shape[1:], lengths is not None):
            raise InputError(f"samples of shape {samples.shape[1:]}; this model takes {expected}.")

    def accepts(self, shape: tuple[int, ...], lengths: bool) -> bool:
        """Return whether raw samples of this shape fit the model; `lengths`: whether they are padded series."""
        return accepts(self.raw_shape, shape, lengths)

    @property
    def kind(self) -> str:
        """What the probabilities are, for headers; as `AnswerRule.column`."""
        return self.rule.column

    @property
    def where(self) -> str:
        """The file, for messages."""
        return self.file.where

    @property
    def code(self) -> dict[str, str]:
        """SHA-256 of each module whose classes the file names."""
        return self.file.code

    @property
    def batch_rows(self) -> int:
        """Samples whose states are computed at once."""
        return self.reservoir.batch_rows

    def predicted(self, raw: NDArray[Any], prepared: NDArray[np.float32], lengths: NDArray[Any] | None) -> Answers:
        """Return the answers for samples that are given raw and `prepared`."""
        return self.answers(prepared, scaled=True, lengths=lengths)

    def prepared(self, raw: NDArray[Any], lengths: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Return raw samples in the form of the shards: scaled, filled and standardised.

        Parameters
        ----------
        raw : ndarray, shape (rows, *sample_shape)
            Samples in the dtype of their file.
        lengths : ndarray of int64, shape (rows,), optional
            Steps of each series.
        """
        if self.data.standardization is None:
            return to_float(raw, self.scale)
        return self.data.standardization.apply(raw, self.scale, lengths)

    def states(self, samples: NDArray[Any], scaled: bool, lengths: NDArray[Any] | None = None) -> torch.Tensor:
        """Return the reservoir states of a block of samples, shape (rows, width); parameters as `probabilities`."""
        values = samples.astype(np.float32) if scaled else self.prepared(samples, lengths)
        rows, lengths = len(values), None if lengths is None else _with_more_rows(lengths)
        return self.reservoir.drive(_with_more_rows(values), lengths)[:rows]

    def answers_of(self, states: torch.Tensor) -> Answers:
        """Return the answers for states, shape (rows, width)."""
        return replace(self._answers_of(states), disagreement=self.disagreement_of(states))

    def _answers_of(self, states: torch.Tensor) -> Answers:
        if self.rule.calibration is None:
            return self.rule.answers(self.probabilities_of(states))
        rows = len(states)
        with torch.no_grad():
            raw, scores = self.network.scored(_enough_rows(states).float())
        return self.rule.answers(raw[:rows].cpu().numpy(), scores[:rows].cpu().numpy())

    def disagreement_of(self, states: torch.Tensor) -> NDArray[np.float32] | None:
        """Return the disagreement of the members of an ensemble, shape (rows,), float32; None for a single network."""
        with torch.no_grad():
            values = self.network.disagreement(states.float())
        return None if values is None else np.asarray(values.cpu().numpy())

    def probabilities_of(self, states: torch.Tensor) -> NDArray[np.float32]:
        """Return class probabilities of the model itself, before calibration, shape (rows, classes), float32."""
        with torch.no_grad():
            return np.asarray(self.network.probabilities(_enough_rows(states).float())[: len(states)].cpu().numpy())


def accepts(trained: tuple[int, ...], shape: tuple[int, ...], lengths: bool) -> bool:
    """Return whether samples of a shape fit those of a training; `lengths`: whether they are padded series."""
    # The reservoir stops at the end of each series, so series may be longer than those of the training.
    axes = slice(1, None) if lengths else slice(None)
    return len(shape) == len(trained) and shape[axes] == trained[axes]


def _with_more_rows(block: NDArray[Any]) -> NDArray[Any]:
    """Return a block with its first row repeated until it has `FEWEST_ROWS`; an empty or larger block unchanged."""
    if not 0 < len(block) < FEWEST_ROWS:
        return block
    return np.concatenate([block, np.repeat(block[:1], FEWEST_ROWS - len(block), axis=0)])


def _enough_rows(states: torch.Tensor) -> torch.Tensor:
    """Return states with the first row repeated until there are `FEWEST_ROWS`; no or more rows unchanged."""
    rows = len(states)
    return torch.cat([states, states[:1].expand(FEWEST_ROWS - rows, -1)]) if 0 < rows < FEWEST_ROWS else states
