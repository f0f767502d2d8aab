"""The trained model as one file: everything it takes to get from raw samples to class probabilities."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import ReservoirSection, TrainingSection
from rcdp_hpc.data.reading import ShardSet
from rcdp_hpc.data.sources import to_float
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.cutting import Cut
from rcdp_hpc.reservoir.files import arrays_of, matrices_of, read_matrices
from rcdp_hpc.reservoir.kept_steps import input_features
from rcdp_hpc.training import checkpoint
from rcdp_hpc.training.model_data import ModelData
from rcdp_hpc.training.networks.assembly import EndToEnd, build_network, make_source
from rcdp_hpc.training.networks.learned import LearnedSource
from rcdp_hpc.training.ridge import RidgeNetwork
from rcdp_hpc.training.slices import Ensemble

log = logging.getLogger(__name__)

TRAIN_AGAIN = "Put a copy back, or train again with --restart."
WITHOUT_BASELINE = "Remove it to evaluate without the ridge baseline, or train again with --restart."


class TrainedModel:
    """A reservoir and its trained readout, for prediction in one process.

    Parameters
    ----------
    reservoir, training : ReservoirSection, TrainingSection
        Settings both were built with; the reservoir's matrices follow from its seed.
    classes : list of str
        Class names.
    sample_shape : tuple of int
        Shape of one sample.
    scale : float
        Factor from the source's raw values to those the model was trained on.
    weights : dict
        State of the readout network.
    shards : str
        Digest of the shards it was trained on.
    device : torch.device, optional
        Where states and scores are computed; default: the CPU.
    matrices : ReservoirMatrices, optional
        Those that the user gave.
    data : ModelData, optional
        What prediction has to know of the training data: columns, standardisation, ranges, how files are read.
    learned : dict, optional
        What the extractor learned before the training: a dictionary, or the biases of kernels.
    """

    def __init__(
        self,
        reservoir: ReservoirSection,
        training: TrainingSection,
        classes: list[str],
        sample_shape: tuple[int, ...],
        scale: float,
        weights: dict[str, torch.Tensor],
        shards: str = "",
        device: torch.device | None = None,
        matrices: ReservoirMatrices | None = None,
        data: ModelData | None = None,
        learned: dict[str, torch.Tensor] | None = None,
    ) -> None:
        self.shards = shards
        self.data = data or ModelData()
        self.classes, self.sample_shape, self.scale = classes, sample_shape, scale
        self.device = device or torch.device("cpu")
        self.reservoir = make_source(reservoir, training, sample_shape, self.device, matrices)
        if isinstance(self.reservoir, LearnedSource):
            self.reservoir.learned.load_state_dict(learned or {})

        def build() -> torch.nn.Module:
            if training.readout == "ridge":
                return RidgeNetwork(self.reservoir.width, len(classes))
            return build_network(reservoir, training, sample_shape, self.reservoir, len(classes), seed=0)

        members = Ensemble.count(weights) if training.slices == "ensemble" else 0
        self.network = (Ensemble([build() for _ in range(members)]) if members else build()).to(self.device)
        self.network.load_state_dict(weights)
        self.network.eval()

    @staticmethod
    def save(
        path: Path,
        reservoir: ReservoirSection,
        training: TrainingSection,
        shards: ShardSet,
        weights: dict[str, torch.Tensor],
        learned: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Write the model file, atomically.

        Matrices that the user gave go into it, what a frozen extractor learned, and what prediction has to know of the
        shards it was trained on.
        """
        settings = {"reservoir": reservoir.model_dump(), "training": training.model_dump()}
        content = {
            "settings": json.dumps(settings),
            "classes": list(shards.classes),
            "sample_shape": list(shards.sample_shape),
            "scale": shards.scale,
            "shards": shards.digest,
            **ModelData.contents(shards.index),
            "weights": {name: value.cpu() for name, value in weights.items()},
        }
        if learned:
            content["learned"] = {name: value.cpu() for name, value in learned.items()}
        if reservoir.matrices:
            found = read_matrices(reservoir.matrices, reservoir.nodes, _inputs(reservoir, shards.sample_shape))
            content["matrices"] = {name: torch.from_numpy(array) for name, array in arrays_of(found).items()}
        checkpoint.save(path, content)

    @classmethod
    def load(cls, path: Path, device: torch.device | None = None) -> TrainedModel:
        """Read a model file.

        Raises
        ------
        InputError
            If there is none.
        DataDamagedError
            If it is damaged.
        """
        if not path.exists():
            raise InputError(
                f"{path}: no trained model there yet. Train one first (`rcdp train --out {path.parent.parent}`)."
            )
        content: dict[str, Any] = checkpoint.load(path, TRAIN_AGAIN)
        settings = json.loads(content["settings"])
        reservoir, sample_shape = ReservoirSection(**settings["reservoir"]), tuple(content["sample_shape"])
        matrices = None
        if "matrices" in content:
            arrays = {name: value.numpy() for name, value in content["matrices"].items()}
            matrices = matrices_of(arrays, reservoir.nodes, _inputs(reservoir, sample_shape), path)
        return cls(
            reservoir,
            TrainingSection(**settings["training"]),
            content["classes"],
            sample_shape,
            content["scale"],
            content["weights"],
            content["shards"],
            device,
            matrices,
            ModelData.of(content),
            content.get("learned"),
        )

    @staticmethod
    def load_baseline(path: Path, model: TrainedModel) -> Callable[[torch.Tensor], NDArray[np.float32]] | None:
        """Return what gives the class scores of the ridge readout that was fitted to the same states as the model.

        None if there is none, or, with a warning, if it was fitted to the states of another reservoir.

        Raises
        ------
        DataDamagedError
            If the file is damaged.
        """
        if not os.path.lexists(path):
            return None
        content: dict[str, Any] = checkpoint.load(path, WITHOUT_BASELINE)
        reservoir = ReservoirSection(**json.loads(content["settings"])["reservoir"])
        if reservoir != model.reservoir.settings:
            log.warning("%s: fitted to another reservoir than the model, so it is not compared with it", path)
            return None
        network = RidgeNetwork(model.reservoir.width, len(model.classes)).to(model.device)
        network.load_state_dict(content["weights"])

        def scores(states: torch.Tensor) -> NDArray[np.float32]:
            with torch.no_grad():
                return np.asarray(network(states.float()).cpu().numpy())

        return scores

    def blocks(
        self, samples: NDArray[Any], labels: NDArray[Any], lengths: NDArray[Any] | None
    ) -> Iterator[tuple[torch.Tensor, NDArray[Any]]]:
        """Yield the states and labels of samples as they lie in the shards, a block of rows at a time."""
        for rows, states in self._blocks(samples, True, lengths):
            yield states, labels[rows]

    def _blocks(
        self, samples: NDArray[Any], scaled: bool, lengths: NDArray[Any] | None
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        size = self.reservoir.batch_rows
        for start in range(0, len(samples), size):
            rows = slice(start, start + size)
            yield rows, self.states(samples[rows], scaled, None if lengths is None else lengths[rows])

    def probabilities(
        self, samples: NDArray[Any], scaled: bool, lengths: NDArray[Any] | None = None
    ) -> NDArray[np.float32]:
        """Return class probabilities.

        Parameters
        ----------
        samples : ndarray, shape (rows, *sample_shape)
            Raw samples, or samples as they lie in the shards.
        scaled : bool
            Whether they are as in the shards.
        lengths : ndarray of int, shape (rows,), optional
            Steps of each sample that hold data; without it all are whole.

        Returns
        -------
        ndarray, shape (rows, classes), float32
            Softmax of the class scores.

        Raises
        ------
        InputError
            If the samples are of another shape than those the model was trained on.
        """
        if not self.takes(samples.shape[1:], lengths is not None):
            raise InputError(f"samples of shape {samples.shape[1:]}; this model takes {self.sample_shape}.")
        parts = [self.probabilities_of(states) for _, states in self._blocks(samples, scaled, lengths)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)

    def takes(self, shape: tuple[int, ...], lengths: bool) -> bool:
        """Whether the model takes samples of this shape; `lengths` says whether they are padded series."""
        # The reservoir stops at a sequence's own end, so that one may be longer than those it was trained on.
        axes = slice(1, None) if lengths else slice(None)
        return len(shape) == len(self.sample_shape) and shape[axes] == self.sample_shape[axes]

    def prepared(self, raw: NDArray[Any], lengths: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """Return raw samples as they are in the shards: scaled, filled and standardised.

        Parameters
        ----------
        raw : ndarray, shape (rows, *sample_shape)
            Samples in the number format of their file.
        lengths : ndarray of int64, shape (rows,), optional
            Steps of each series.
        """
        if self.data.standardization is None:
            return to_float(raw, self.scale)
        return self.data.standardization.apply(raw, self.scale, lengths)

    def states(self, samples: NDArray[Any], scaled: bool, lengths: NDArray[Any] | None = None) -> torch.Tensor:
        """Return the reservoir states of a block of samples, shape (rows, width); parameters as `probabilities`."""
        values = samples.astype(np.float32) if scaled else self.prepared(samples, lengths)
        return self.reservoir.drive(values, lengths)

    def probabilities_of(self, states: torch.Tensor) -> NDArray[np.float32]:
        """Return class probabilities of states that `states` gave, shape (rows, classes)."""
        with torch.no_grad():
            if isinstance(self.network, EndToEnd):
                return np.asarray(self.network.probabilities(states.float()).cpu().numpy())
            scores = self.network(states.float())
            return np.asarray(torch.softmax(scores, 1).cpu().numpy())


def _inputs(reservoir: ReservoirSection, sample_shape: tuple[int, ...]) -> int:
    """Return the inputs that a neuron of the first reservoir has at a step."""
    _, features = Cut.of(reservoir).shape(sample_shape)
    return input_features(reservoir, features)
