"""What the training and the prediction need of a network, whether it is trained, solved or averaged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.networks.losses.base import Loss
from rcdp_hpc.networks.sample_rng import Draw, SampleRng

Link = Callable[[torch.Tensor], torch.Tensor]
# Lower bound of a probability in a logarithm.
LEAST_PROBABILITY = 1e-12


def softmax(scores: torch.Tensor) -> torch.Tensor:
    """Return the softmax of scores, shape (rows, classes)."""
    return torch.softmax(scores, 1)


class Network(nn.Module, ABC):
    """Class scores from the features of a sample (`rcdp_hpc.reservoir.identity_source.StateSource`).

    The loss that the network is trained with owns the link from its scores to probabilities.
    """

    _link: Link = staticmethod(softmax)

    def use_link(self, loss: Callable[[], Loss]) -> None:
        """Set the link from scores to probabilities to that of a loss, which is created only if it is needed."""
        self._link = loss().probabilities

    def link(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the probabilities that scores stand for, both of shape (rows, classes); by default their softmax."""
        return self._link(scores)

    @abstractmethod
    def forward(self, features: torch.Tensor, rng: SampleRng | None = None) -> torch.Tensor:
        """Return class scores.

        Parameters
        ----------
        features : torch.Tensor, shape (rows, features), float32
        rng : SampleRng, optional
            Random numbers of these rows, for dropout and random changes of images; None in prediction.

        Returns
        -------
        torch.Tensor, shape (rows, classes)
        """

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Return class probabilities, shape (rows, classes), of features (rows, features)."""
        return self.link(self(features))

    def disagreement(self, features: torch.Tensor) -> torch.Tensor | None:
        """Return the disagreement of the members of an ensemble, shape (rows,), float32; None for a single network.

        Parameters
        ----------
        features : torch.Tensor, shape (rows, features)
        """
        return None

    def scored(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities, and what a calibration of them reads, both of shape (rows, classes).

        By default the logarithms of the probabilities: those of a softmax are its scores up to a constant of each row.
        """
        probabilities = self.probabilities(features)
        return probabilities, probabilities.clamp_min(LEAST_PROBABILITY).log()

    def random_draws(self) -> Sequence[Draw]:
        """Return the random numbers that a training step of this network draws, in any order.

        A step draws those it is known to need together. Numbers that are not listed can be drawn, too.
        """
        return ()

    # The base class has no input scaling, patches or sequences; these defaults do nothing.
    def standardise(self, sums: torch.Tensor, squares: torch.Tensor, rows: float) -> None:
        """Set the standardisation of the input.

        Parameters
        ----------
        sums, squares : torch.Tensor, shape (features,), float64
            Sum and sum of squares of each feature over the training rows of all ranks.
        rows : float
            Number of these rows, or the sum of their weights.
        """

    def fit_patches(
        self, blocks: Iterable[torch.Tensor], add: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> None:
        """Fit layers that are computed from the training samples without gradients. Collective.

        Parameters
        ----------
        blocks : iterable of torch.Tensor, shape (rows, features)
            The training samples of this rank.
        add : callable
            Returns the sum of an array over all ranks.
        """

    def watch_sequences(self, asked: Callable[[], bool], take: Callable[[torch.Tensor], None]) -> int:
        """Report the gradient of the sequences that the network reads.

        Parameters
        ----------
        asked : callable
            Called in each forward pass; whether the gradient of this pass is wanted.
        take : callable
            Called with the gradient, shape (rows, steps, features).

        Returns
        -------
        int
            Steps of a sequence; 0 if the network reads no sequence.
        """
        return 0


class SequenceModule(nn.Module):
    """A trained extractor: sequences (rows, steps, features) from samples (rows, *sample_shape), eq. 8.

    Attributes
    ----------
    steps, features : int
        Shape of a sequence.
    """

    steps: int
    features: int

    def fit_patches(
        self, blocks: Iterable[torch.Tensor], add: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> None:
        """Fit layers that are computed from normalised samples without gradients; as `Network.fit_patches`."""
