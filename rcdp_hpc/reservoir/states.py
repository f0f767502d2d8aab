"""The state engine: leaky reservoir states of many samples at once (eq. 9), in torch.

A step of a block of samples is one matrix product, [s_t, u_t, 1] times [C, W_in, b_in] transposed, into
buffers that are allocated once. Nothing is differentiated: the reservoir is fixed. In bfloat16 only the
product is; activation and leak are float32, which is more accurate, and faster than torch's own bfloat16
tanh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.connection import ReservoirMatrices, reservoir_matrices
from rcdp_hpc.reservoir.sequence import as_sequences, sequence_shape

Kernel = Literal["dense-fp32", "dense-bf16"]
KERNELS: dict[str, torch.dtype] = {"dense-fp32": torch.float32, "dense-bf16": torch.bfloat16}
# The inner length of the product is padded with zeros: bfloat16 products are up to 1.7 times faster for it.
MULTIPLE = 32


def kept_steps(steps: int, count: int) -> list[int]:
    """Return the steps (from 0) whose states are kept: `count` of them, equally spaced, the last included.

    Raises
    ------
    InputError
        If more states are asked for than the sequence has steps.
    """
    if count > steps:
        raise InputError(
            f"reservoir.states = {count} is more than the {steps} steps of a sample: "
            "lower it, or choose another reservoir.sequence"
        )
    return [(place + 1) * steps // count - 1 for place in range(count)]


class Reservoir:
    """A fixed random reservoir.

    Parameters
    ----------
    settings : ReservoirSection
        The section ``[reservoir]``, a candidate's values already in it.
    features : int
        Features per step of the input sequence.
    kernel : {"dense-fp32", "dense-bf16"}
        Precision of the matrix products and of the states returned.
    device : str or torch.device
        Where states are computed.
    matrices : ReservoirMatrices, optional
        Taken instead of those that `settings` would give.

    Attributes
    ----------
    nodes, features : int
    width : int
        Length of a sample's feature vector: kept states times nodes.
    dtype : torch.dtype
        Of the states returned.

    Raises
    ------
    CandidateError
        If the connection matrix cannot be given its spectral radius, or does not fit into memory.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        features: int,
        kernel: str = "dense-fp32",
        device: str | torch.device = "cpu",
        matrices: ReservoirMatrices | None = None,
    ) -> None:
        if kernel not in KERNELS:
            raise InputError(f"reservoir.kernel = {kernel!r}: expected {' or '.join(KERNELS)} by now")
        self.settings, self.features, self.kernel = settings, features, kernel
        self.nodes = settings.nodes
        self.width = settings.nodes * settings.states
        self.dtype, self.device = KERNELS[kernel], torch.device(device)
        self._weights = self._stack(matrices or reservoir_matrices(settings, features))
        self._activate = torch.Tensor.tanh_ if settings.activation == "tanh" else torch.Tensor.sigmoid_

    def _stack(self, matrices: ReservoirMatrices) -> Tensor:
        """Return [C, W_in, b_in, 0] transposed, shape (nodes + features + 1 + padding, nodes)."""
        length = -(-(self.nodes + self.features + 1) // MULTIPLE) * MULTIPLE
        try:
            stack = np.zeros((self.nodes, length), dtype=np.float32)
        except MemoryError:
            raise CandidateError(
                f"reservoir.nodes = {self.nodes} needs {self.nodes * length * 4 / 2**30:.1f} GiB for its "
                "connection matrix, more than there is: lower reservoir.nodes"
            ) from None
        recurrent = matrices.recurrent.tocoo()
        stack[recurrent.row, recurrent.col] = recurrent.data
        stack[:, self.nodes : self.nodes + self.features] = matrices.input
        stack[:, self.nodes + self.features] = matrices.bias
        return torch.from_numpy(stack).to(self.device, self.dtype).T

    @torch.no_grad()
    def states(self, u: Any, out: Tensor | None = None) -> Tensor:
        """Drive the reservoir from s_0 = 0 and return the kept states (eq. 9).

        s_(t+1) = (1 - a) · s_t + a · f(C · s_t + W_in · u_t + b_in)

        Parameters
        ----------
        u : torch.Tensor or numpy.ndarray, shape (batch, steps, features)
            Input sequences.
        out : torch.Tensor, shape (batch, width), optional
            Where to write, of the kernel's dtype.

        Returns
        -------
        torch.Tensor, shape (batch, width)
            The kept states one after the other, earliest first.

        Raises
        ------
        InputError
            If the shape of `u` does not fit, or the sequence has fewer steps than states are to be kept.
        CandidateError
            If a state is not finite.
        """
        u = torch.as_tensor(u, device=self.device)
        if u.ndim != 3 or u.shape[2] != self.features:
            raise InputError(f"sequences of shape {tuple(u.shape)}: expected (batch, steps, {self.features})")
        batch, steps = u.shape[:2]
        kept = {step: place for place, step in enumerate(kept_steps(steps, self.settings.states))}
        if out is None:
            out = torch.empty(batch, self.width, dtype=self.dtype, device=self.device)
        blocks = out.view(batch, len(kept), self.nodes)
        for step, state in enumerate(self._run(u)):
            if step in kept:
                blocks[:, kept[step]] = state
        if not torch.isfinite(out).all():
            raise CandidateError(
                "reservoir states are not finite: look for NaN or very large values in the data, or lower "
                "reservoir.input_scaling and the size of the recurrent weights"
            )
        return out

    def _run(self, u: Tensor) -> Iterator[Tensor]:
        """Yield the float32 states after each step, shape (batch, nodes), in one buffer for all of them."""
        batch, steps = u.shape[:2]
        joined = torch.zeros(batch, self._weights.shape[0], dtype=self.dtype, device=self.device)
        recurrent, fed = joined[:, : self.nodes], joined[:, self.nodes : self.nodes + self.features]
        joined[:, self.nodes + self.features] = 1
        product = torch.empty(batch, self.nodes, dtype=self.dtype, device=self.device)
        driven = product if self.dtype == torch.float32 else torch.empty_like(product, dtype=torch.float32)
        leak = self.settings.leak
        state = driven if leak == 1 else torch.zeros_like(driven)
        for step in range(steps):
            fed.copy_(u[:, step])
            first = self.nodes if step == 0 else 0  # s_0 = 0: nothing comes from C yet
            torch.mm(joined[:, first:], self._weights[first:], out=product)
            if driven is not product:
                driven.copy_(product)
            self._activate(driven)
            if leak < 1:
                state.lerp_(driven, leak)
            if step + 1 < steps:
                recurrent.copy_(state)
            yield state

    def compute(self, x: Any, out: Tensor | None = None, advance: Callable[[int], object] | None = None) -> Tensor:
        """Compute the features of many raw samples in fixed blocks of ``batch_rows`` rows.

        Memory beyond `out` is that of one block. The last block may be shorter.

        Parameters
        ----------
        x : array, shape (N, ...)
            Samples in a shape of `rcdp_hpc.reservoir.sequence`; anything that has a shape and gives a
            NumPy array or a tensor for a slice of rows, so an HDF5 dataset also.
        out : torch.Tensor, shape (N, width), optional
            Where to write, of the kernel's dtype and on its device.
        advance : callable, optional
            Called after each block with the number of its rows.

        Returns
        -------
        torch.Tensor, shape (N, width)

        Raises
        ------
        InputError, CandidateError
            As `states` and `sequence_shape`.
        """
        rows, sequence = x.shape[0], self.settings.sequence
        steps, features = sequence_shape(x.shape[1:], sequence)
        if features != self.features:
            raise InputError(
                f"samples of shape {tuple(x.shape[1:])} give {features} features a step under "
                f"reservoir.sequence = {sequence!r}, but the reservoir was built for {self.features}"
            )
        kept_steps(steps, self.settings.states)
        if out is None:
            out = torch.empty(rows, self.width, dtype=self.dtype, device=self.device)
        for start in range(0, rows, self.settings.batch_rows):
            stop = min(start + self.settings.batch_rows, rows)
            block = torch.as_tensor(x[start:stop], device=self.device)
            self.states(as_sequences(block, sequence), out=out[start:stop])
            if advance is not None:
                advance(stop - start)
        return out
