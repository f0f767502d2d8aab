"""A reservoir's states, followed by the features of random convolution kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rcdp_hpc.config import ExtractorSection, ReservoirSection
from rcdp_hpc.networks.kernel_learning import learn
from rcdp_hpc.networks.kernels import RandomKernels
from rcdp_hpc.networks.learned_source import LearnedSource, TrainingSamples
from rcdp_hpc.networks.shapes import check_kernel_steps
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.identity_source import make_reservoir
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.sequence_checks import check_input
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import DEFAULT_BATCH_ROWS

# Series that biases are learned from; fewer of long ones, so that they have at most this number of values, but not
# fewer than the least.
SERIES = 512
SERIES_VALUES = 2**22
LEAST_SERIES = 16


class KernelSource(LearnedSource):
    """A reservoir's states, followed by the features of random kernels; without a reservoir only the features.

    Reservoir and kernels read the same sequences.

    Parameters
    ----------
    settings : ReservoirSection
    extractor : ExtractorSection
    sample_shape : sequence of int
        Shape of one sample.
    device : torch.device
    matrices : ReservoirMatrices, optional
        The user's own matrices of the reservoir.

    Attributes
    ----------
    learned : RandomKernels
        Its biases are zeros until they are learned or loaded.
    feature_shape, width, batch_rows, dtype, device, kernel, sequencer
        As of `rcdp_hpc.reservoir.identity_source.StateSource`.

    Raises
    ------
    InputError
        If samples have fewer steps than a kernel has weights.
    """

    learned: RandomKernels
    learned_name = "biases of the kernels"
    file_name = "kernels.pt"
    dtype = torch.float32

    def __init__(
        self,
        settings: ReservoirSection,
        extractor: ExtractorSection,
        sample_shape: Sequence[int],
        device: torch.device,
        matrices: ReservoirMatrices | None = None,
    ) -> None:
        self.settings = settings
        self.extractor = extractor
        self.device = device
        self.sequencer = Sequencer.of(settings)
        steps, channels = self.sequencer.shape(sample_shape)
        check_kernel_steps(steps, sample_shape)
        self.learned = RandomKernels(extractor, channels, settings.seed).to(device)
        self.reservoir = None if settings.kind == "none" else make_reservoir(settings, sample_shape, device, matrices)
        self.states_width = 0 if self.reservoir is None else self.reservoir.width
        self.kernel = "none" if self.reservoir is None else self.reservoir.kernel
        self.batch_rows = settings.batch_rows or DEFAULT_BATCH_ROWS
        if self.reservoir is not None:
            self.batch_rows = self.reservoir.batch_rows
        self.width = self.states_width + self.learned.features
        self.feature_shape = FeatureShape(1, 1, self.width)

    def drive(self, x: Any, lengths: ArrayLike | None = None, out: Tensor | None = None, noisy: bool = False) -> Tensor:
        """Return states and features of raw samples, shape (batch, width); parameters as `Reservoir.drive`."""
        steps = None if lengths is None else self.sequencer.lengths(lengths)
        return self.states(self.sequencer.sequences(x), out, steps, noisy)

    def states(
        self, u: Any, out: Tensor | None = None, lengths: ArrayLike | None = None, noisy: bool = False
    ) -> Tensor:
        """Return states and features of sequences (batch, steps, features); parameters as `Reservoir.states`."""
        u = torch.as_tensor(u).to(self.device, torch.float32)
        check_input(u, None if lengths is None else torch.as_tensor(lengths).to(self.device))
        if out is None:
            out = torch.empty(len(u), self.width, dtype=self.dtype, device=self.device)
        if self.reservoir is not None:
            out[:, : self.states_width] = self.reservoir.states(u, None, lengths, noisy=noisy)
        self.learned(u, lengths, out[:, self.states_width :])
        return out

    def release(self) -> None:
        """Free the memory that the reservoir keeps for further blocks."""
        if self.reservoir is not None:
            self.reservoir.release()

    def learned_from(self) -> Mapping[str, Any]:
        """Return what the biases depend on in addition to section [extractor], the data and the seed."""
        return {"sequence": asdict(self.sequencer), "channels_seed": self.settings.seed}

    def learn(self, samples: TrainingSamples, seed: int) -> tuple[dict[str, Tensor], str]:
        """Learn dilations and biases; as `LearnedSource.learn`."""
        steps, channels = self.sequencer.shape(samples.sample_shape)
        most = min(SERIES, max(LEAST_SERIES, SERIES_VALUES // (steps * max(1, channels // 4))))
        rows, padded_lengths = samples.originals(most)
        lengths = None if padded_lengths is None else self.sequencer.lengths(padded_lengths)
        kernels = RandomKernels(self.extractor, channels, self.settings.seed)
        series = torch.as_tensor(self.sequencer.sequences(rows), dtype=torch.float32)
        learn(kernels, series, lengths, seed)
        return kernels.state_dict(), (
            f"biases of {kernels.features} convolution kernel features ({', '.join(kernels.inputs)}) learned from "
            f"{len(rows)} training series"
        )
