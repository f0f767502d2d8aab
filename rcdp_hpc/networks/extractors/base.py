"""The base classes of extractors. They need no torch to be imported, since the preparation checks samples with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.kept_steps import check_length, check_samples, check_steps, prepared_features
from rcdp_hpc.reservoir.sequencing import Sequencer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rcdp_hpc.networks.base import Network, SequenceModule
    from rcdp_hpc.parallel.base import Strategy
    from rcdp_hpc.reservoir.identity_source import StateSource
    from rcdp_hpc.reservoir.reductions import FeatureShape


class Extractor(ABC):
    """What ``extractor.kind`` does with samples of one shape.

    Derive a class from `MapExtractor` if it computes sequences, from `CutExtractor` if the reservoir reads the samples
    as ``reservoir.sequence`` cuts them, and from `rcdp_hpc.networks.extractors.trained.TrainedExtractor` if it is
    trained with the readout.

    Parameters
    ----------
    config : Config
    sample_shape : sequence of int
        Shape of one sample.

    Attributes
    ----------
    bound : float or None
        Largest absolute value of its features; with it, sums over them are the same bits for any number of ranks. None
        if they have no bound.
    joined_features : int
        Features that follow the reservoir's states in the row of a sample.
    bands : int
        Frequency bands that the features are divided into without a reservoir, one after the other
        (`rcdp_hpc.reservoir.reductions.FeatureShape`); 1 if they are not.
    """

    bound: float | None = None
    joined_features: int = 0
    bands: int = 1

    def __init__(self, config: Config, sample_shape: Sequence[int]) -> None:
        self.config = config
        self.settings = config.extractor
        self.reservoir = config.reservoir
        self.sample_shape = tuple(sample_shape)

    @abstractmethod
    def sequence_shape(self) -> tuple[int, int] | None:
        """Return the steps and features of the sequences that drive the reservoir; None if only a trial shows them.

        Raises
        ------
        InputError
            If the samples have another shape than the extractor takes.
        """

    @abstractmethod
    def checked_shape(self, shortest: int | None) -> tuple[int, int] | None:
        """Return `sequence_shape`, after a check that the reservoir's settings fit the sequences.

        Parameters
        ----------
        shortest : int or None
            Steps of the shortest sample; None if all samples have the same number of steps.

        Raises
        ------
        InputError
            If the samples do not fit.
        """

    @abstractmethod
    def source(self, device: torch.device, matrices: ReservoirMatrices | None = None) -> StateSource:
        """Return the source of the rows that are cached for the training.

        Parameters
        ----------
        device : torch.device
        matrices : ReservoirMatrices, optional
            The user's own matrices of the reservoir.
        """

    def network(self, source: StateSource, classes: int, seed: int, parallel: Strategy | None = None) -> Network:
        """Return the network that reads the rows of a source, with its initial weights.

        Parameters
        ----------
        source : StateSource
            As `source` returns it; the network is put on its device.
        classes : int
            Number of classes.
        seed : int
            Determines the initial weights.
        parallel : Strategy, optional
            Sums batch statistics over ranks; default: one process.
        """
        from rcdp_hpc.networks.readouts import build_readout

        return build_readout(self.config, source.feature_shape, classes, seed, parallel).to(source.device)

    def learned_part(self) -> nn.Module | None:
        """Return the part that is learned before the training, its values zeros; None if there is none."""
        return None

    def trained_part(self, parallel: Strategy | None = None) -> SequenceModule | None:
        """Return the part that is trained with the readout, with random weights; None if there is none."""
        return None

    def feature_shape(self) -> FeatureShape:
        """Return the order of a sample's features in its row, for a reservoir drawn from the settings."""
        from rcdp_hpc.reservoir.reductions import FeatureShape, feature_shape

        shape = self.sequence_shape()
        if shape is None:
            raise TypeError(f"the sequences of extractor.kind = {self.settings.kind!r} follow from a trial only")
        steps, features = shape
        if self.reservoir.kind != "none":
            states = feature_shape(self.reservoir, steps)
        else:
            states = FeatureShape(1, steps, prepared_features(self.reservoir, features), raw=True, bands=self.bands)
        if not self.joined_features:
            return states
        width = 0 if self.reservoir.kind == "none" else states.features
        return FeatureShape(1, 1, width + self.joined_features)


class CutExtractor(Extractor):
    """An extractor whose reservoir reads the samples as ``reservoir.sequence`` cuts them."""

    def sequence_shape(self) -> tuple[int, int]:
        """Return the steps and features of the sequences that drive the reservoir."""
        return Sequencer.of(self.reservoir).shape(self.sample_shape)

    def checked_shape(self, shortest: int | None) -> tuple[int, int]:
        """Return `sequence_shape`, checked; parameters and errors as `Extractor.checked_shape`."""
        steps, features = self.sequence_shape()
        if self.reservoir.kind != "none":
            # Test samples count, too: a sample with too few steps would end a long training in its evaluation.
            check_samples(self.reservoir, self.sample_shape, shortest)
        else:
            check_steps(self.reservoir, steps)
            if shortest is not None:
                Sequencer.of(self.reservoir).lengths([shortest])
        return steps, features


class MapExtractor(Extractor):
    """An extractor that computes the sequences which drive the reservoir; all samples have one length."""

    def checked_shape(self, shortest: int | None) -> tuple[int, int] | None:
        """Return `sequence_shape`, checked; parameters and errors as `Extractor.checked_shape`."""
        if shortest is not None:
            raise InputError(
                f"extractor.kind = {self.settings.kind!r} reads samples of one length, but these samples differ in "
                "length: set it to 'none' or 'kernels'"
            )
        shape = self.sequence_shape()
        if shape is None:
            return None
        steps, features = shape
        if self.reservoir.kind != "none":
            check_length(self.reservoir, steps)
        check_steps(self.reservoir, steps)
        return steps, features
