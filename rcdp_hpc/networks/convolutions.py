"""The convolutions of the trained extractor of eq. 8, whose feature map drives the reservoir."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from rcdp_hpc.networks.base import SequenceModule
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.shapes import convolution_map, sequence_of_map
from rcdp_hpc.networks.whitening import ACTIVATIONS, PatchWhitening
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.parallel.single import single_process


class Convolutions(SequenceModule):
    """Feature maps T in R^(C x H x W) (eq. 8), read as a sequence.

    x_0 is the image, or its whitened patches (`PatchWhitening`). With N the batch normalisation over all ranks, P the
    maximum over 2 x 2 pixels, A the activation, and 3 x 3 kernels K_l and R_l, stage l = 1 .. L computes

    ``y = A(N(P(K_l * x_(l-1))))``, and ``x_l = y + A(N(R_l * y))`` with residuals (He et al. 2016), otherwise
    ``x_l = y``.

    The map T = x_L is normalised once more, so that each channel that drives the reservoir has mean 0 and standard
    deviation 1. A step of the sequence is a row of the map (u_t has the C · W values of row t), or a position (u_t has
    the C values of position t; positions are read row by row).

    Parameters
    ----------
    sample_shape : sequence of int
        (height, width) or (height, width, channels). Each stage halves height and width.
    channels : sequence of int
        Channels after each stage.
    residual : bool
        Whether each stage has a residual block.
    sequence : {"rows", "positions"}
        A step of the sequence.
    parallel : Strategy, optional
        Sums batch statistics over ranks; default: one process.
    activation : {"relu", "gelu"}
        A.
    whitening : int
        Height and width of the whitened patches in pixels; 0 for no whitening.

    Raises
    ------
    InputError
        If the samples are not images, or too small.
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        channels: Sequence[int],
        residual: bool = True,
        sequence: str = "rows",
        parallel: Strategy | None = None,
        activation: str = "relu",
        whitening: int = 0,
    ) -> None:
        super().__init__()
        parallel = parallel or single_process()
        height, width = convolution_map(sample_shape, channels, whitening)
        depth = sample_shape[2] if len(sample_shape) == 3 else 1
        self.steps, self.features = sequence_of_map(sequence, channels[-1], height, width)
        self.whitening = PatchWhitening(whitening, depth, activation) if whitening else None
        first = 2 * self.whitening.width if self.whitening else depth
        self.stages = nn.ModuleList(
            Stage(inputs, outputs, residual, parallel, f"norm.map.{number}", activation)
            for number, (inputs, outputs) in enumerate(zip([first, *channels[:-1]], channels, strict=True))
        )
        self.norm = SyncBatchNorm(channels[-1], parallel, "norm.map.last")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return sequences (rows, steps, features) of images (rows, height, width) or (..., channels)."""
        x = maps_of(images)
        if self.whitening:
            x = self.whitening(x)
        for stage in self.stages:
            x = stage(x)
        x = self.norm(x)
        # With the axes (rows, H, W, C), rows and positions differ only in how the last axes are split.
        return x.permute(0, 2, 3, 1).reshape(-1, self.steps, self.features)

    def fit_patches(
        self, blocks: Iterable[torch.Tensor], add: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> None:
        """Fit the whitening of image patches, if there is one; parameters as `Network.fit_patches`."""
        if self.whitening is None:
            return
        moments = self.whitening.no_moments()
        for block in blocks:
            moments += self.whitening.moments(maps_of(block))
        self.whitening.fit(torch.from_numpy(add(moments.cpu().numpy())))


def maps_of(images: torch.Tensor) -> torch.Tensor:
    """Return images as (rows, channels, height, width)."""
    return (images.unsqueeze(3) if images.ndim == 3 else images).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """One stage of `Convolutions`: halves height and width, and turns `inputs` channels into `outputs` channels."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        residual: bool,
        parallel: Strategy,
        name: str,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.kernel = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = SyncBatchNorm(outputs, parallel, f"{name}.first")
        self.residual_kernel = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False) if residual else None
        self.residual_norm = SyncBatchNorm(outputs, parallel, f"{name}.residual") if residual else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the map (rows, outputs, height // 2, width // 2) of x (rows, inputs, height, width)."""
        y = self.activation(self.norm(functional.max_pool2d(self.kernel(x), 2)))
        if self.residual_kernel is None or self.residual_norm is None:
            return y
        return y + self.activation(self.residual_norm(self.residual_kernel(y)))
