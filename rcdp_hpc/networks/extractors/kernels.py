"""Random convolution kernels of series, whose features follow the reservoir's states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rcdp_hpc.config import Config
from rcdp_hpc.networks.extractors.base import CutExtractor
from rcdp_hpc.networks.shapes import check_kernel_steps, kernel_features
from rcdp_hpc.reservoir.connection import ReservoirMatrices

if TYPE_CHECKING:
    import torch

    from rcdp_hpc.networks.kernel_source import KernelSource
    from rcdp_hpc.networks.kernels import RandomKernels


class KernelExtractor(CutExtractor):
    """Random convolution kernels (MiniRocket), learned from training series without labels and then fixed."""

    # A feature is a fraction of steps.
    bound = 1.0

    def __init__(self, config: Config, sample_shape: Sequence[int]) -> None:
        super().__init__(config, sample_shape)
        self.joined_features = kernel_features(self.settings)

    def checked_shape(self, shortest: int | None) -> tuple[int, int]:
        """Return `sequence_shape`, checked; parameters and errors as `Extractor.checked_shape`."""
        steps, features = super().checked_shape(shortest)
        check_kernel_steps(steps, self.sample_shape)
        return steps, features

    def source(self, device: torch.device, matrices: ReservoirMatrices | None = None) -> KernelSource:
        """Return reservoir and kernels, which read the same sequences; parameters as `Extractor.source`."""
        from rcdp_hpc.networks.kernel_source import KernelSource

        return KernelSource(self.reservoir, self.settings, self.sample_shape, device, matrices)

    def learned_part(self) -> RandomKernels:
        """Return the kernels, their biases zeros."""
        from rcdp_hpc.networks.kernels import RandomKernels

        _, features = self.sequence_shape()
        return RandomKernels(self.settings, features, self.reservoir.seed)
