"""A 1-D convolution over the kept steps as readout."""

from __future__ import annotations

import torch
from torch import nn

from rcdp_hpc.networks.base import SequenceReadout
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.reservoir.reductions import FeatureShape


class ConvolutionReadout(SequenceReadout):
    """Class scores from convolutions over time.

    With c_0 = o, o_t = W_out s_t (eq. 10), layer l has ``c_l,t = ReLU(sum_j K_l,j c_(l-1),t+j + b_l)``, j from -(k-1)/2
    to (k-1)/2 and zeros beyond the ends; the ReLU's input is batch-normalised over rows and steps, with b_l as the
    shift. ``scores = W [mean_t c_L,t, max_t c_L,t] + b``.

    Parameters
    ----------
    kept : FeatureShape
        How the states of a sample lie in its row.
    outputs, hidden, layers, span, classes : int
        Components of o_t; channels of each layer; layers; steps k that a kernel spans, odd; scores.
    dropout : float
        Share of the pooled units dropped in training.
    parallel : Alone, optional
        How batch statistics are summed over ranks; default: one process.
    """

    def __init__(
        self,
        kept: FeatureShape,
        outputs: int,
        hidden: int,
        layers: int,
        span: int,
        classes: int,
        dropout: float = 0.0,
        parallel: SingleProcessEngine | None = None,
    ) -> None:
        super().__init__(kept, outputs, dropout)
        parallel = parallel or SingleProcessEngine()
        widths = [outputs] + [hidden] * layers
        self.kernels = nn.ModuleList(
            nn.Conv1d(below, hidden, span, padding=span // 2, bias=False) for below in widths[:-1]
        )
        self.norms = nn.ModuleList(SyncBatchNorm(hidden, parallel, f"norm.steps.{layer}") for layer in range(layers))
        self.scores = nn.Linear(2 * hidden, classes)

    def read(self, standard: torch.Tensor, draw: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""
        c = self.outputs(standard).transpose(1, 2)
        for kernel, norm in zip(self.kernels, self.norms, strict=True):
            c = torch.relu(norm(kernel(c)))
        pooled = torch.cat([c.mean(2), c.amax(2)], dim=1)
        scores: torch.Tensor = self.scores(self.drop(pooled, draw, layer=0))
        return scores
