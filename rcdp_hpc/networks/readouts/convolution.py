"""A convolution over the kept steps as readout."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.readouts.base import SequenceReadout
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.reservoir.reductions import FeatureShape


class ConvolutionReadout(SequenceReadout):
    """Class scores from convolutions over time.

    With c_0 = o, o_t = W_out s_t (eq. 10), layer l has ``c_l,t = ReLU(sum_j K_l,j c_(l-1),t+j + b_l)``, j from -(k-1)/2
    to (k-1)/2 and zeros beyond the ends; the input of the ReLU is batch-normalised over rows and steps, and b_l is the
    shift of the normalisation. ``scores = W [mean_t c_L,t, max_t c_L,t] + b``.

    Reads ``outputs`` (components of o_t), ``hidden`` (channels of each layer), ``layers``, ``kernel_size`` (k, odd) and
    ``dropout`` (of the pooled units); parameters as `Readout`.
    """

    def __init__(
        self, settings: ReadoutSection, shape: FeatureShape, classes: int, parallel: Strategy | None = None
    ) -> None:
        super().__init__(settings, shape, classes, parallel)
        parallel = parallel or single_process()
        size, hidden = settings.kernel_size, settings.hidden
        inputs = [settings.outputs] + [hidden] * (settings.layers - 1)
        self.kernels = nn.ModuleList(
            nn.Conv1d(channels, hidden, size, padding=size // 2, bias=False) for channels in inputs
        )
        self.norms = nn.ModuleList(
            SyncBatchNorm(hidden, parallel, f"norm.steps.{layer}") for layer in range(settings.layers)
        )
        self.scores = nn.Linear(2 * hidden, classes)
        self.dropped_units = [2 * hidden]

    def read(self, standard: torch.Tensor, rng: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""
        c = self.outputs(standard).transpose(1, 2)
        for kernel, norm in zip(self.kernels, self.norms, strict=True):
            c = torch.relu(norm(kernel(c)))
        pooled = torch.cat([c.mean(2), c.amax(2)], dim=1)
        scores: torch.Tensor = self.scores(self.drop(pooled, rng, layer=0))
        return scores
