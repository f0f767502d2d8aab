"""The base classes of trained readouts: standardised input, eq. 10 at every step, dropout by sample."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.sample_rng import Draw, SampleRng
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.reservoir.reductions import FeatureShape

# Added to each standard deviation, so that values which hardly change do not grow into rounding noise.
LEAST_DEVIATION = 1e-3


class Readout(Network):
    """Class scores from the features of a sample, which are standardised first.

    Each feature s becomes (s - mean) / (standard deviation + 0.001) over the training rows: many neurons hardly change,
    and Adam is slow if scales differ.

    A class in the table of readouts is created with these parameters. The docstring of a subclass names the settings
    that it reads.

    Parameters
    ----------
    settings : ReadoutSection
    shape : FeatureShape
        The order of a sample's features in its row.
    classes : int
        Number of classes.
    parallel : Strategy, optional
        Sums batch statistics over ranks; default: one process.

    Attributes
    ----------
    dropped_units : sequence of int
        Units of each layer whose units are dropped (`drop`), in the order of their numbers.
    """

    dropped_units: Sequence[int] = ()
    state_mean: torch.Tensor
    state_scale: torch.Tensor

    def __init__(
        self, settings: ReadoutSection, shape: FeatureShape, classes: int, parallel: Strategy | None = None
    ) -> None:
        super().__init__()
        self.feature_shape = shape
        self.classes = classes
        self.dropout = settings.dropout
        self.register_buffer("state_mean", torch.zeros(shape.features))
        self.register_buffer("state_scale", torch.ones(shape.features))

    def forward(self, features: torch.Tensor, rng: SampleRng | None = None) -> torch.Tensor:
        """Return class scores (rows, classes) of features (rows, features); `rng` drops hidden units."""
        return self.read((features - self.state_mean) * self.state_scale, rng)

    @abstractmethod
    def read(self, standard: torch.Tensor, rng: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised features (rows, features)."""

    def standardise(self, sums: torch.Tensor, squares: torch.Tensor, rows: float) -> None:
        """Set the standardisation of the features; parameters as `Network.standardise`."""
        if self.feature_shape.raw:
            # Input pixels that are seldom lit would get a huge scale, so all pixels share one.
            sums, squares = self.shared_mean(sums), self.shared_mean(squares)
        mean = sums / rows
        deviation = (squares / rows - mean * mean).clamp_min(0).sqrt()
        self.state_mean.copy_(mean.float())
        self.state_scale.copy_((1 / (deviation + LEAST_DEVIATION)).float())

    def shared_mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return values, shape (features,), each replaced by the mean over the inputs that share one standardisation.

        Without a reservoir these are all inputs.
        """
        return values.mean().expand_as(values)

    def random_draws(self) -> Sequence[Draw]:
        """Return the numbers that decide which units are dropped; as `Network.random_draws`."""
        return [Draw(layer, units) for layer, units in enumerate(self.dropped_units)] if self.dropout else []

    def drop(self, hidden: torch.Tensor, rng: SampleRng | None, layer: int) -> torch.Tensor:
        """Return hidden values (rows, units) with some units dropped; each layer of a network has its own number."""
        if rng is None or not self.dropout or not self.training:
            return hidden
        return hidden * rng.keep_mask(hidden.shape[1], self.dropout, layer)

    def watch_sequences(self, asked: Callable[[], bool], take: Callable[[torch.Tensor], None]) -> int:
        """Report the gradient of the standardised features; parameters as `Network.watch_sequences`."""

        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if asked():
                # By the chain rule, dividing by the factor of the standardisation gives the gradient of its result.
                inputs[0].requires_grad_().register_hook(
                    lambda gradient: take(self.feature_shape.by_step(gradient / self.state_scale))
                )

        self.register_forward_pre_hook(hook)
        return self.feature_shape.steps


class SequenceReadout(Readout):
    """A readout that reads the kept states step by step.

    ``o_t = W_out s_t`` (eq. 10) at each step t, with s_t the states of all parts of the reservoir after step t.

    Reads ``outputs``, the components of o_t; other parameters as `Readout`.
    """

    def __init__(
        self, settings: ReadoutSection, shape: FeatureShape, classes: int, parallel: Strategy | None = None
    ) -> None:
        super().__init__(settings, shape, classes, parallel)
        self.output_map = nn.Linear(shape.parts * shape.width, settings.outputs, bias=False)

    def outputs(self, standard: torch.Tensor) -> torch.Tensor:
        """Return o of standardised features (rows, features), shape (rows, steps, outputs)."""
        result: torch.Tensor = self.output_map(self.feature_shape.by_step(standard))
        return result
