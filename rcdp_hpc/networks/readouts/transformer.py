"""A small transformer encoder as readout."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.networks.readouts.base import SequenceReadout
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.reservoir.reductions import FeatureShape

LONGEST_WAVE = 10_000.0


class TransformerReadout(SequenceReadout):
    """Class scores from self-attention over the kept steps (Vaswani et al. 2017, normalised before each block).

    With x_t = W_out s_t (eq. 10) + p_t, p the sines and cosines of the step, each layer does, N the layer norm,

    ``x = x + A(N(x))`` with ``A = softmax(Q K' / sqrt(d)) V`` per head, d the width of a head, and
    ``x = x + W_2 ReLU(W_1 N(x) + b_1) + b_2``;  scores = W N(mean_t x_t) + b.

    Reads ``outputs`` (width of x, a multiple of ``heads``), ``hidden`` (units of the ReLU layer), ``layers``, ``heads``
    and ``dropout`` (of the units of N(mean_t x_t)); parameters as `Readout`.
    """

    positions: torch.Tensor

    def __init__(
        self, settings: ReadoutSection, shape: FeatureShape, classes: int, parallel: Strategy | None = None
    ) -> None:
        super().__init__(settings, shape, classes, parallel)
        width = settings.outputs
        self.register_buffer("positions", waves(shape.steps, width), persistent=False)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, settings.heads, settings.hidden, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, classes)
        self.dropped_units = [width]

    def read(self, standard: torch.Tensor, rng: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""
        x = self.outputs(standard) + self.positions
        with repeatable_attention(x.device):
            for layer in self.encoder:
                x = layer(x)
        scores: torch.Tensor = self.scores(self.drop(self.norm(x.mean(1)), rng, layer=0))
        return scores


@contextmanager
def repeatable_attention(device: torch.device) -> Iterator[None]:
    """Choose forms of attention on a GPU whose gradients repeat to the bit, if torch is to be deterministic.

    The gradients of the memory-efficient form and of that of cuDNN are sums in the order in which they are ready. Flash
    attention, for 16 bits, sorts them if torch is asked to be deterministic, and the plain form needs no sorting.
    """
    if device.type != "cuda" or not torch.are_deterministic_algorithms_enabled():
        yield
        return
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
        yield


def waves(steps: int, width: int) -> torch.Tensor:
    """Return p, shape (steps, width): p_(t, 2i) = sin(t / 10000^(2i / width)), p_(t, 2i+1) the cosine."""
    pair = torch.arange(0, width, 2, dtype=torch.float64)
    angle = torch.arange(steps, dtype=torch.float64)[:, None] * torch.exp(-pair / width * math.log(LONGEST_WAVE))
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :width].float()
