"""One recurrent network, one step at a time: the kernels that compute eq. 9.

s_(t+1) = (1 - a) · s_t + a · f(C · s_t + W_in · u_t + b_in + noise), with one a, or one for each neuron

A cell holds the states of a block of samples and moves the first `rows` of them on by a step, in buffers that are
allocated once per block. Nothing is differentiated here.

=============  =============================================  =========================================
kernel         product                                        for
=============  =============================================  =========================================
dense-fp32     torch, float32                                 any machine
dense-bf16     torch, bfloat16                                processors and GPUs that multiply bfloat16
dense-fp16     torch, float16                                 GPUs where that is faster
fused-bf16     oneDNN, bfloat16, packed weights, f included   CPUs that multiply bfloat16
sparse-fp32    torch CSR, float32                             large, thin reservoirs
=============  =============================================  =========================================

The running state is float32 in all of them, so that small leaks are not lost; in fused-bf16 with leak 1 the state is
the product's own bfloat16 output.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.connection import ReservoirMatrices

KERNELS: dict[str, torch.dtype] = {
    "dense-fp32": torch.float32,
    "dense-bf16": torch.bfloat16,
    "dense-fp16": torch.float16,
    "fused-bf16": torch.bfloat16,
    "sparse-fp32": torch.float32,
}
# The inner length of the product is padded with zeros: bfloat16 products are up to 1.7 times faster for it.
MULTIPLE = 32
# States of so many bytes stay in a core's cache beside the sparse matrix; fewer samples do not pay for a pass over it.
SPARSE_BYTES = 5 << 18
SPARSE_ROWS = 32
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.Tensor.tanh_,
    "sigmoid": torch.Tensor.sigmoid_,
    "relu": torch.Tensor.relu_,
    "identity": lambda value: value,
}
Noise = Callable[[int], Tensor]


class Cell:
    """A reservoir's neurons. Subclasses say how the product is formed.

    Parameters
    ----------
    settings : ReservoirSection
        Of it are used: nodes, leak, activation.
    matrices : ReservoirMatrices
        C, W_in and b_in.
    rates : numpy.ndarray, shape (nodes,), or None
        Each neuron's leak rate; None if all have the one of `settings`.
    dtype : torch.dtype
        Precision of the product.
    device : torch.device

    Attributes
    ----------
    most_rows : int
        More samples at once than these are slower.
    leak : float or torch.Tensor, shape (nodes,)
        The leak rate a.
    forgets : bool
        Whether a = 1 for all neurons: the state is the activation.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        matrices: ReservoirMatrices,
        rates: NDArray[np.float64] | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.nodes, self.activation = settings.nodes, settings.activation
        self.leak: float | Tensor = settings.leak
        if rates is not None:
            self.leak = torch.from_numpy(rates.astype(np.float32)).to(device)
        self.forgets = rates is None and settings.leak == 1
        self.features = matrices.input.shape[1]
        self.dtype, self.device = dtype, device
        self.most_rows = sys.maxsize
        self._activate = ACTIVATIONS[settings.activation]

    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block and set s_0 = 0."""
        raise NotImplementedError

    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Move the first rows on by one step.

        Parameters
        ----------
        u : sequence of torch.Tensor, shape (rows, part of the features)
            Input, in pieces that lie side by side, zeros beyond them; samples beyond the first `rows` keep their state.
        noise : torch.Tensor, shape (rows, nodes), optional
            Added inside f.

        Returns
        -------
        torch.Tensor, shape (batch, nodes)
            The states of all samples, in a buffer that the next step overwrites.
        """
        raise NotImplementedError

    @staticmethod
    def _feed(into: Tensor, pieces: Sequence[Tensor]) -> None:
        """Write the pieces side by side into a view of shape (rows, features)."""
        start = 0
        for piece in pieces:
            into[:, start : start + piece.shape[1]].copy_(piece)
            start += piece.shape[1]
        if start < into.shape[1]:
            into[:, start:].zero_()


class ProductCell(Cell):
    """A cell whose neurons are driven by one dense product per step; activation and leak are in float32."""

    def _allocate(self, batch: int, length: int, ones: int) -> None:
        """Allocate the product's input, `length` wide with 1 in column `ones`, its result, and states of 0."""
        self._joined = torch.zeros(batch, length, dtype=self.dtype, device=self.device)
        self._joined[:, ones] = 1
        self._product = torch.empty(batch, self.nodes, dtype=self.dtype, device=self.device)
        single = self.dtype == torch.float32
        self._driven = self._product if single else torch.empty_like(self._product, dtype=torch.float32)
        self._state = self._driven if self.forgets else torch.zeros_like(self._driven)

    def _updated(self, rows: int, noise: Tensor | None) -> Tensor:
        """Apply activation and leak to the product of the first rows; return the states of all rows."""
        driven = self._driven[:rows]
        if self._driven is not self._product:
            driven.copy_(self._product[:rows])
        if noise is not None:
            driven.add_(noise)
        self._activate(driven)
        if not self.forgets:
            self._state[:rows].lerp_(driven, self.leak)
        return self._state


class DenseCell(ProductCell):
    """[s_t, u_t, 1] times [C, W_in, b_in] transposed in one dense product; activation and leak in float32.

    Attributes
    ----------
    weights : torch.Tensor, shape (nodes + features + 1, rounded up, nodes)
        [C, W_in, b_in, 0] transposed.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        matrices: ReservoirMatrices,
        rates: NDArray[np.float64] | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(settings, matrices, rates, dtype, device)
        length = math.ceil((self.nodes + self.features + 1) / MULTIPLE) * MULTIPLE
        self.weights = _stacked(matrices, self.nodes, length).to(device, dtype).T

    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block and set s_0 = 0."""
        self._allocate(batch, self.weights.shape[0], self.nodes + self.features)
        self._started = False

    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Move the first rows on by one step."""
        rows = len(u[0])
        joined = self._joined[:rows]
        if self._started:
            joined[:, : self.nodes].copy_(self._state[:rows])
        self._feed(joined[:, self.nodes : self.nodes + self.features], u)
        first = 0 if self._started else self.nodes  # s_0 = 0: nothing comes from C yet
        self._started = True
        torch.mm(joined[:, first:], self.weights[first:], out=self._product[:rows])
        return self._updated(rows, noise)


class FusedCell(Cell):
    """oneDNN's bfloat16 product with the activation fused into it, weights packed once for it.

    With leak 1 the product's rows are as wide as its input, [s, u, 1, 0], its columns beyond the neurons 0: the output
    is the next step's input as it is, with u and 1 written into it.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        matrices: ReservoirMatrices,
        rates: NDArray[np.float64] | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(settings, matrices, rates, dtype, device)
        self._length = math.ceil((self.nodes + self.features + 1) / MULTIPLE) * MULTIPLE
        self._weights = torch.zeros(self._length if self.forgets else self.nodes, self._length, dtype=dtype)
        self._weights[: self.nodes] = _stacked(matrices, self.nodes, self._length).to(dtype)
        self._packed_for = 0
        # An activation that is not 0 at 0 would leave its value in the padding, whose weights are 0.
        self._inside = {"tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "identity": "none"}[self.activation]

    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block and set s_0 = 0."""
        self._joined = torch.zeros(batch, self._length, dtype=self.dtype)
        if batch != self._packed_for:
            pack = torch.ops.mkldnn._reorder_linear_weight
            self._packed = pack(self._weights, batch)
            self._packed_input = pack(self._weights[:, self.nodes :].contiguous(), batch)
            self._packed_for = batch
        if not self.forgets:
            self._state = torch.zeros(batch, self.nodes)
            self._driven = torch.empty(batch, self.nodes)
        self._started = False

    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Move the first rows on by one step."""
        rows, batch, nodes = len(u[0]), len(self._joined), self.nodes
        joined = self._joined if rows == batch else self._joined[:rows].contiguous()
        self._feed(joined[:, nodes : nodes + self.features], u)
        joined[:, nodes + self.features] = 1
        out = self._product(joined, "none" if noise is not None else self._inside)
        if noise is not None:
            out[:, :nodes] = self._activate(out[:, :nodes].float().add_(noise))
        if self.forgets:
            if rows == batch:
                self._joined = out
            else:
                self._joined[:rows] = out
            return self._joined[:, :nodes]
        driven = self._driven[:rows].copy_(out)
        self._state[:rows].lerp_(driven, self.leak)
        self._joined[:rows, :nodes].copy_(self._state[:rows])
        return self._state

    def _product(self, joined: Tensor, activation: str) -> Tensor:
        weights = self._packed
        if not self._started:  # s_0 = 0: nothing comes from C yet
            joined, weights = joined[:, self.nodes :].contiguous(), self._packed_input
        self._started = True
        out: Tensor = torch.ops.mkldnn._linear_pointwise(joined, weights, None, activation, [], "")
        return out


class SparseCell(Cell):
    """C as a CSR matrix times the states, which lie transposed, (nodes, batch); W_in dense.

    Each connection reads a row of the states, from anywhere: few samples are taken at once, so that all their states
    lie in a core's cache.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        matrices: ReservoirMatrices,
        rates: NDArray[np.float64] | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(settings, matrices, rates, dtype, device)
        if device.type == "cpu":
            self.most_rows = max(SPARSE_ROWS, SPARSE_BYTES // (4 * self.nodes))
        recurrent = matrices.recurrent.tocsr()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            self._recurrent = torch.sparse_csr_tensor(
                torch.from_numpy(recurrent.indptr.astype(np.int64)),
                torch.from_numpy(recurrent.indices.astype(np.int64)),
                torch.from_numpy(recurrent.data.astype(np.float32)),
                size=recurrent.shape,
                check_invariants=False,
            ).to(device)
        joined = np.column_stack([matrices.input, matrices.bias]).astype(np.float32)
        self._input = torch.from_numpy(joined).to(device)

    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block and set s_0 = 0."""
        self._state = torch.zeros(self.nodes, batch, device=self.device)
        self._fed = torch.ones(self.features + 1, batch, device=self.device)
        self._started = False

    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Move the first rows on by one step."""
        rows = len(u[0])
        fed, state = self._fed[:, :rows], self._state[:, :rows]
        self._feed(fed[:-1].T, u)
        driven = torch.mm(self._input, fed)
        if self._started:
            driven = torch.addmm(driven, self._recurrent, state.contiguous())
        self._started = True
        if noise is not None:
            driven += noise.T
        self._activate(driven)
        if self.forgets:
            state.copy_(driven)
        else:
            state.lerp_(driven, self.leak if isinstance(self.leak, float) else self.leak[:, None])
        return self._state.T


def make_cell(
    settings: ReservoirSection,
    matrices: ReservoirMatrices,
    kernel: str,
    device: torch.device,
    rates: NDArray[np.float64] | None = None,
) -> Cell:
    """Return the cell of a kernel, one of `KERNELS`; parameters as `Cell`.

    Where there is no oneDNN, on a GPU for example, fused-bf16 is computed by torch's bfloat16 product: the same
    precision, other last digits.

    Raises
    ------
    InputError
        If there is no such kernel, or this machine cannot run it.
    CandidateError
        If the matrices do not fit into memory.
    """
    if kernel not in KERNELS:
        raise InputError(f"reservoir.kernel = {kernel!r}: expected {' or '.join(KERNELS)} by now")
    kind: type[Cell] = {"fused-bf16": FusedCell, "sparse-fp32": SparseCell}.get(kernel, DenseCell)
    if kind is FusedCell and not fused_available(device):
        kind = DenseCell
    return kind(settings, matrices, rates, KERNELS[kernel], device)


def fused_available(device: torch.device) -> bool:
    """Tell whether this torch has oneDNN's fused product, and the device is a CPU."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def _stacked(matrices: ReservoirMatrices, nodes: int, length: int) -> Tensor:
    """Return [C, W_in, b_in, 0], shape (nodes, length), float32."""
    try:
        stack = np.zeros((nodes, length), dtype=np.float32)
    except MemoryError:
        raise CandidateError(
            f"reservoir.nodes = {nodes} needs {nodes * length * 4 / 2**30:.1f} GiB for its "
            "connection matrix, more than there is: lower reservoir.nodes"
        ) from None
    features = matrices.input.shape[1]
    recurrent = matrices.recurrent.tocoo()
    stack[recurrent.row, recurrent.col] = recurrent.data
    stack[:, nodes : nodes + features] = matrices.input
    stack[:, nodes + features] = matrices.bias
    return torch.from_numpy(stack)
