"""Sources with a part that is fixed before the training: learned from samples, or taken from another model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rcdp_hpc.reservoir.identity_source import StateSource


class TrainingSamples(Protocol):
    """Access to the training samples that a part is learned from."""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    def rows(self, count: int) -> NDArray[np.float32]:
        """Return about `count` training samples, synthetic ones included; all if there are fewer."""

    def originals(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
        """Return about `count` samples that are not synthetic, and their lengths; None if all have one length."""

    def labelled(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return about `count` samples that are not synthetic, and their class indices."""


class FixedSource(StateSource):
    """A source whose rows depend on a part that has a state, and is fixed before the training.

    Attributes
    ----------
    learned : nn.Module
        The part; its state is stored in the model file.
    learned_name : str
        Names the part in messages.
    """

    learned: nn.Module
    learned_name: str


class LearnedSource(FixedSource):
    """A source whose fixed part is learned from training samples.

    Attributes
    ----------
    file_name : str
        File in ``RUN/train`` that keeps the part for a resumed training.
    """

    file_name: str

    def learned_from(self) -> Mapping[str, Any]:
        """Return what the part depends on in addition to section [extractor], the data and the seed."""
        return {}

    @abstractmethod
    def learn(self, samples: TrainingSamples, seed: int) -> tuple[dict[str, Tensor], str]:
        """Learn the part, on the CPU.

        Returns
        -------
        dict, str
            The state of `learned`, and one line for the log.

        Raises
        ------
        InputError
            If training samples contain values that are not finite.
        """


def learned_of(source: StateSource) -> dict[str, Tensor]:
    """Return the state of the fixed part of a source, for the model file; empty if there is none."""
    return source.learned.state_dict() if isinstance(source, FixedSource) else {}


def load_learned(source: StateSource, state: Mapping[str, Tensor]) -> None:
    """Load the state of the fixed part of a source, if there is one."""
    if isinstance(source, FixedSource):
        source.learned.load_state_dict(dict(state))
