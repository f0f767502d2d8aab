"""A first layer that is fixed before the training: whitened image patches."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from rcdp_hpc.reservoir.frozen_casts import FrozenCasts, product_dtype

# Added to each eigenvalue, so that axes along which patches hardly vary do not become noise.
LEAST_VARIANCE = 5e-4


class PatchWhitening(nn.Module):
    """Whitened patches, each axis with both signs, ``y = A(K * x)`` with the activation A.

    M = E diag(l) E' are the second moments of all k x k patches of the training images, which are normalised, so that
    the mean of the patches is about 0. The kernels K are the rows of ``diag(l + e)^(-1/2) E'`` and their negatives: an
    activation such as ReLU loses the negative part of a row, but keeps it in the negated row. Neither labels nor
    gradients are needed (Page 2018; Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024). Height and width
    of the map are k - 1 smaller than those of the image.

    Parameters
    ----------
    side : int
        Height and width k of a patch in pixels.
    depth : int
        Channels of the images.
    activation : {"relu", "gelu"}
        A.
    """

    kernels: torch.Tensor

    def __init__(self, side: int, depth: int, activation: str) -> None:
        super().__init__()
        self.side = side
        self.width = depth * side * side
        self.activation = ACTIVATIONS[activation]
        self.register_buffer("kernels", torch.zeros(2 * self.width, depth, side, side))
        self._casts = FrozenCasts()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the map (rows, 2 * depth * k * k, height - k + 1, width - k + 1) of x (rows, depth, height, width)."""
        kernels = self._casts.of("kernels", self.kernels, product_dtype(self.kernels))
        return self.activation(functional.conv2d(x, kernels))

    def no_moments(self) -> torch.Tensor:
        """Return the moments of no images, all zeros, on the device of the kernels."""
        return self.kernels.new_zeros(self.width**2 + 1, dtype=torch.float64)

    def moments(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of p p' over all patches p of x, and their number, shape (width * width + 1,), float64."""
        if not len(x):
            return self.no_moments()
        patches = functional.unfold(x, self.side).transpose(0, 1).flatten(1)
        return torch.cat([(patches @ patches.T).double().flatten(), x.new_tensor([patches.shape[1]]).double()])

    def fit(self, moments: torch.Tensor) -> None:
        """Compute the kernels from the sum of `moments` over the training images of all ranks."""
        values, axes = torch.linalg.eigh((moments[:-1] / moments[-1]).view(self.width, self.width))
        # The sign of an eigenvector is arbitrary, so the largest entry is made positive.
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        kernels = (axes / (values.clamp_min(0) + LEAST_VARIANCE).sqrt()).T.float()
        self.kernels.copy_(torch.cat([kernels, -kernels]).view(self.kernels.shape))


ACTIVATIONS = {"relu": torch.relu, "gelu": functional.gelu}
