"""The trainable extractor of eq. 8: a small stack of convolutions whose feature map is the reservoir's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.networks.shapes import convolution_map
from rcdp_hpc.networks.whitening import ACTIVATIONS, PatchWhitening
from rcdp_hpc.parallel.single import SingleProcessEngine


class ConvolutionExtractor(nn.Module):
    """Feature maps T in R^(C x H x W) (eq. 8), read as a sequence.

    With x_0 the image, or its whitened patches (`PatchWhitening`), stage l = 1 .. L does, N the batch normalisation
    over all ranks, P the maximum over 2 x 2 and A the activation,

    ``y = A(N(P(K_l * x_(l-1))))``, and with residuals (He et al. 2016) ``x_l = y + A(N(R_l * y))``, otherwise
    ``x_l = y``,

    K_l and R_l being 3 x 3 kernels. The sequence is of the map T = x_L, normalised once more so that the reservoir sees
    every channel at mean 0 and deviation 1: its rows, u_t = the C · W values of row t, or its positions, u_t = the C
    values of position t, row by row.

    Parameters
    ----------
    sample_shape : sequence of int
        (height, width) or (height, width, channels); height and width must outlast the halvings of L stages.
    channels : sequence of int
        Channels after each stage.
    residual : bool
        Whether each stage has a residual block.
    sequence : {"rows", "positions"}
        What a step of the sequence is.
    parallel : Alone, optional
        How batch statistics are summed over ranks; default: one process.
    activation : {"relu", "gelu"}
        A.
    whitening : int
        Side of the patches; 0 leaves them out.

    Attributes
    ----------
    steps, features : int
        Of the sequences.

    Raises
    ------
    InputError
        If the samples are no images, or too small.
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        channels: Sequence[int],
        residual: bool = True,
        sequence: str = "rows",
        parallel: SingleProcessEngine | None = None,
        activation: str = "relu",
        whitening: int = 0,
    ) -> None:
        super().__init__()
        parallel = parallel or SingleProcessEngine()
        height, width = convolution_map(sample_shape, channels, whitening)
        depth = sample_shape[2] if len(sample_shape) == 3 else 1
        self.sequence, self.channels = sequence, channels[-1]
        by_row = sequence == "rows"
        self.steps = height if by_row else height * width
        self.features = self.channels * (width if by_row else 1)
        self.whitening = PatchWhitening(whitening, depth, activation) if whitening else None
        first = 2 * self.whitening.width if self.whitening else depth
        self.stages = nn.ModuleList(
            Stage(below, above, residual, parallel, f"norm.map.{number}", activation)
            for number, (below, above) in enumerate(zip([first, *channels[:-1]], channels, strict=True))
        )
        self.norm = SyncBatchNorm(self.channels, parallel, "norm.map.last")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return sequences (rows, steps, features) of images (rows, height, width) or (..., channels)."""
        x = maps_of(images)
        if self.whitening:
            x = self.whitening(x)
        for stage in self.stages:
            x = stage(x)
        x = self.norm(x)
        # (rows, C, H, W) to (rows, H, W, C): both readings are then a matter of where the axes are cut.
        return x.permute(0, 2, 3, 1).reshape(-1, self.steps, self.features)


def maps_of(images: torch.Tensor) -> torch.Tensor:
    """Return images as (rows, channels, height, width)."""
    return (images.unsqueeze(3) if images.ndim == 3 else images).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """One stage of `ConvolutionExtractor`: half the height and width, `above` channels out of `below`."""

    def __init__(
        self, below: int, above: int, residual: bool, parallel: SingleProcessEngine, name: str, activation: str = "relu"
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.kernel = nn.Conv2d(below, above, 3, padding=1, bias=False)
        self.norm = SyncBatchNorm(above, parallel, f"{name}.first")
        self.residual_kernel = nn.Conv2d(above, above, 3, padding=1, bias=False) if residual else None
        self.residual_norm = SyncBatchNorm(above, parallel, f"{name}.residual") if residual else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the map (rows, above, height // 2, width // 2) of x (rows, below, height, width)."""
        y = self.activation(self.norm(functional.max_pool2d(self.kernel(x), 2)))
        if self.residual_kernel is None or self.residual_norm is None:
            return y
        return y + self.activation(self.residual_norm(self.residual_kernel(y)))
