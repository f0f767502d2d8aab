"""The kernel ``sparse-fp32``: products of a CSR matrix in float32, by torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.kernels.base import Kernel

# From this number of neurons and up to this density a sparse product may be the fastest.
LEAST_NODES = 2000
LARGEST_DENSITY = 0.05
# States of this many bytes stay in a core's cache next to the matrix, but blocks of fewer samples do not pay.
CACHED_BYTES = 5 << 18
LEAST_ROWS = 32


class SparseFloat32(Kernel):
    """C as a CSR matrix times the transposed states, (nodes, batch); W_in dense.

    Each connection reads a row of the states at a random place. On a CPU, blocks are therefore so small that their
    states fit into a core's cache.

    Parameters as of `Kernel`.
    """

    dtype = torch.float32
    dense_weights = False
    measured_nodes = 4000

    def __init__(
        self,
        settings: ReservoirSection,
        matrices: ReservoirMatrices,
        rates: NDArray[np.float64] | None,
        device: torch.device,
    ) -> None:
        super().__init__(settings, matrices, rates, device)
        if device.type == "cpu":
            self.most_rows = max(LEAST_ROWS, CACHED_BYTES // (4 * self.nodes))
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

    @classmethod
    def is_measured(cls, nodes: int, density: float, device: torch.device) -> bool:
        """Return whether the reservoir is large and sparse."""
        return density <= LARGEST_DENSITY and nodes >= LEAST_NODES

    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block and set s_0 = 0."""
        self._state = torch.zeros(self.nodes, batch, device=self.device)
        self._joined = torch.ones(self.features + 1, batch, device=self.device)
        self._started = False

    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Compute the next states of the first samples."""
        rows = len(u[0])
        joined, state = self._joined[:, :rows], self._state[:, :rows]
        self.write_input(joined[:-1].T, u)
        driven = torch.mm(self._input, joined)
        if self._started:  # s_0 = 0: C contributes nothing before
            driven = torch.addmm(driven, self._recurrent, state.contiguous())
        self._started = True
        if noise is not None:
            driven += noise.T
        self.activation.apply_(driven)
        if self.forgets:
            state.copy_(driven)
        else:
            state.lerp_(driven, self.leak if isinstance(self.leak, float) else self.leak[:, None])
        return self._state.T
