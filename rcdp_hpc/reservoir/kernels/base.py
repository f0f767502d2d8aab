"""The base class of kernels, which hold the states of a block of samples and compute eq. 9 step by step.

s_(t+1) = (1 - a) · s_t + a · f(C · s_t + W_in · u_t + b_in + noise), with one leak rate a, or one for each neuron
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.activations import load_activation
from rcdp_hpc.reservoir.connection import ReservoirMatrices

# A run on a GPU records large blocks, whose buffers a CPU that predicts with the model would read from main memory.
LARGEST_CPU_BLOCK = 4096
# The inner length of a product is padded with zeros to a multiple of this: bfloat16 products are up to 1.7 times as
# fast.
MULTIPLE = 32
# Bytes; torch's own memory is aligned to it, too.
ALIGNMENT = 64


class Kernel(ABC):
    """One reservoir's neurons over a block of samples, in buffers that are allocated once per block.

    Nothing is differentiated: `rcdp_hpc.reservoir.gradient` is the path for gradients.

    Parameters
    ----------
    settings : ReservoirSection
        Uses nodes, leak and activation.
    matrices : ReservoirMatrices
        C, W_in and b_in.
    rates : numpy.ndarray, shape (nodes,), float64, or None
        Leak rate of each neuron; None if all have ``settings.leak``.
    device : torch.device

    Attributes
    ----------
    dtype : torch.dtype
        Class attribute: number format of the features that a reservoir with this kernel returns, float32, bfloat16 or
        float16.
    dense_weights : bool
        Class attribute: whether all nodes² entries of C are stored, including zeros.
    measured_nodes : int
        Class attribute: ``reservoir.kernel = "auto"`` measures larger reservoirs with this number of neurons.
    nodes, features : int
        Neurons; inputs of a neuron per step.
    activation : Activation
        f.
    leak : float or torch.Tensor, shape (nodes,), float32
        The leak rate a.
    forgets : bool
        Whether a = 1 for all neurons, so that a state is the value of f.
    most_rows : int
        Blocks of more samples are slower.
    recordable : bool
        Class attribute: whether a block can be recorded and replayed with other values, since all that happens in it
        are operations of torch on the device (`rcdp_hpc.reservoir.block_graph`).
    """

    dtype: torch.dtype
    dense_weights: bool = True
    measured_nodes: int = 1000
    recordable: bool = False

    def __init__(
        self,
        settings: ReservoirSection,
        matrices: ReservoirMatrices,
        rates: NDArray[np.float64] | None,
        device: torch.device,
    ) -> None:
        self.nodes = settings.nodes
        self.features = matrices.input.shape[1]
        self.activation_name = settings.activation
        self.activation = load_activation(settings.activation)
        self.leak: float | Tensor = settings.leak
        if rates is not None:
            self.leak = torch.from_numpy(rates.astype(np.float32)).to(device)
        self.forgets = rates is None and settings.leak == 1
        self.device = device
        self.most_rows = LARGEST_CPU_BLOCK if device.type == "cpu" else sys.maxsize

    @classmethod
    def for_device(cls, device: torch.device) -> type[Kernel]:
        """Return the class that computes this kernel on a device.

        Raises
        ------
        InputError
            If the device cannot run it. (By default every device can.)
        """
        return cls

    @classmethod
    def is_measured(cls, nodes: int, density: float, device: torch.device) -> bool:
        """Return whether ``reservoir.kernel = "auto"`` measures this kernel for such a reservoir on a device."""
        return False

    @abstractmethod
    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block of `batch` samples and set s_0 = 0."""

    def begin_sequences(self, u: Tensor, window: int) -> bool:
        """Start a block whose inputs are all known, if the kernel reads them itself.

        Parameters
        ----------
        u : torch.Tensor, shape (steps, batch, columns), `dtype`
            Sequences in reading order.
        window : int
            The input of a step is that of the sequences at this step and at the `window` - 1 steps before, joined, with
            zeros before the first step.

        Returns
        -------
        bool
            Whether `advance` computes the steps of this block; otherwise (the default) `begin` and `step` do.
        """
        return False

    def advance(self, rows: int, noise: Tensor | None = None) -> Tensor:
        """Compute the next states of the first `rows` samples, as `step`, after `begin_sequences` returned True."""
        raise NotImplementedError(f"{type(self).__name__} reads no sequences")

    @abstractmethod
    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Compute the next states of the first samples; the sequences of the others have ended.

        Parameters
        ----------
        u : sequence of torch.Tensor, each of shape (rows, columns), rows <= batch
            Input of the first `rows` samples: tensors whose columns are joined and then filled up with zeros to
            `features` columns, as `write_input` does. Float32, or `dtype`.
        noise : torch.Tensor, shape (rows, nodes), float32, optional
            Added inside f.

        Returns
        -------
        torch.Tensor, shape (batch, nodes), float32 or `dtype`
            States of the first `rows` samples, in a buffer that a later step overwrites. The other rows are not read.
        """

    def end(self) -> None:
        """Free the buffers of a block after its last step, as far as that is wanted."""
        return

    def stacked_weights(self) -> Tensor | None:
        """Return [C, W_in, b_in, 0] transposed if a step is one product with it and then f and the leak, else None.

        Kernels that return it can compute several reservoirs at once (``search.candidates_at_once``).
        """
        return None

    @staticmethod
    def write_input(into: Tensor, u: Sequence[Tensor]) -> None:
        """Write the tensors of an input into `into`, shape (rows, features): joined columns, then zeros."""
        start = 0
        for part in u:
            into[:, start : start + part.shape[1]].copy_(part)
            start += part.shape[1]
        if start < into.shape[1]:
            into[:, start:].zero_()


class ProductKernel(Kernel):
    """A kernel with one dense product per step; activation and leak are computed in float32.

    Its buffers are allocated when the first step of a block needs them.
    """

    _product: Tensor | None = None
    _driven: Tensor | None = None

    def _driven_by(self, left: Tensor, right: Tensor, noise: Tensor | None, batch: int) -> Tensor:
        """Return f(left · right + noise) of the first samples, shape (rows, nodes), float32, in a buffer of a block."""
        if self._product is None or len(self._product) != batch:
            self._product = torch.empty(batch, self.nodes, dtype=self.dtype, device=self.device)
            single = self.dtype == torch.float32
            self._driven = self._product if single else torch.empty_like(self._product, dtype=torch.float32)
        assert self._driven is not None
        product = torch.mm(left, right, out=self._product[: len(left)])
        driven = self._driven[: len(left)]
        if noise is not None:
            torch.add(product, noise, out=driven)
        elif self._driven is not self._product:
            driven.copy_(product)
        self.activation.apply_(driven)
        return driven

    def end(self) -> None:
        """Free the buffers of the product."""
        self._product = None
        self._driven = None


def padded_length(columns: int) -> int:
    """Return the number of columns rounded up to a multiple of `MULTIPLE`."""
    return math.ceil(columns / MULTIPLE) * MULTIPLE


def joined_matrices(matrices: ReservoirMatrices, nodes: int, length: int) -> Tensor:
    """Return [C, W_in, b_in, 0], shape (nodes, length), float32.

    Raises
    ------
    CandidateError
        If it does not fit into memory.
    """
    try:
        joined = _aligned_zeros(nodes * length).reshape(nodes, length)
    except MemoryError:
        raise CandidateError(
            f"reservoir.nodes = {nodes} needs {nodes * length * 4 / 2**30:.1f} GiB for its "
            "connection matrix, more memory than is available: lower reservoir.nodes"
        ) from None
    features = matrices.input.shape[1]
    recurrent = matrices.recurrent.tocoo()
    joined[recurrent.row, recurrent.col] = recurrent.data
    joined[:, nodes : nodes + features] = matrices.input
    joined[:, nodes + features] = matrices.bias
    return torch.from_numpy(joined)


def _aligned_zeros(count: int) -> NDArray[np.float32]:
    """Return zeros that start at a multiple of `ALIGNMENT` bytes: the last digits of MKL's products depend on it."""
    values = np.zeros(count + ALIGNMENT // 4, dtype=np.float32)
    start = -values.ctypes.data % ALIGNMENT // 4
    return values[start : start + count]
