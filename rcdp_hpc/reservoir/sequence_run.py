"""A block of sequences driven through the reservoirs: scans, directions, layers, and the loop over the steps.

`rcdp_hpc.reservoir.kernels` compute the steps. `rcdp_hpc.reservoir.reductions` compute the features while the steps are
computed, so that the states of all steps never exist together. For sequences of one length nothing is read back from
the device, so that a block can be recorded (`rcdp_hpc.reservoir.block_graph`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.inputs import prepare_inputs
from rcdp_hpc.reservoir.kept_steps import check_length
from rcdp_hpc.reservoir.kernels import Kernel
from rcdp_hpc.reservoir.noise import SampleNoise
from rcdp_hpc.reservoir.reductions import JoinedReductions
from rcdp_hpc.reservoir.scans import Scan
from rcdp_hpc.reservoir.sequence_checks import blanked


class SequenceRun:
    """The computation of a block by all reservoirs.

    Parameters
    ----------
    settings : ReservoirSection
    scans : sequence of Scan
    kernels : sequence of sequence of Kernel
        By scan and layer.
    values : int
        Values per neuron.
    dtype : torch.dtype
        Number format of the kernels' inputs.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        scans: Sequence[Scan],
        kernels: Sequence[Sequence[Kernel]],
        values: int,
        dtype: torch.dtype,
    ) -> None:
        self.settings = settings
        self.scans = scans
        self.kernels = kernels
        self.values = values
        self.dtype = dtype

    @property
    def recordable(self) -> bool:
        """Whether blocks of sequences of one length can be recorded and replayed."""
        return all(kernel.recordable and kernel.activation.native for kernels in self.kernels for kernel in kernels)

    def compute(self, u: Tensor, out: Tensor, lengths: NDArray[np.int64] | None = None, noisy: bool = False) -> None:
        """Compute the features of a block.

        Parameters
        ----------
        u : torch.Tensor, shape (batch, steps, features)
            Sequences, checked.
        out : torch.Tensor, shape (batch, width)
            Where the result is written.
        lengths : numpy.ndarray, shape (batch,), int64, optional
            Steps of each sequence.
        noisy : bool
            Add the noise of the settings.
        """
        ends = None if lengths is None else torch.from_numpy(lengths).to(u.device)
        noise = SampleNoise(blanked(u, ends), self.settings.seed) if noisy and self.settings.noise else None
        steps = u.shape[1]
        u = prepare_inputs(self.settings, u, ends)
        if lengths is None or ends is None:
            check_length(self.settings, steps)
            self._run_scans(u, out, None, [], noise)
            return
        # Longest first, so that the sequences still running are always the first ones.
        order = np.argsort(-lengths, kind="stable")
        places = torch.from_numpy(order).to(u.device)
        ordered = torch.empty_like(out)
        if noise is not None:
            noise.reorder(places)
        self._run_scans(u[places], ordered, ends[places], lengths[order].tolist(), noise)
        out[places] = ordered

    def _run_scans(
        self, u: Tensor, out: Tensor, ends: Tensor | None, lengths: list[int], noise: SampleNoise | None
    ) -> None:
        """Run every reservoir over the sequences, longest first if they have lengths."""
        directions = 2 if self.settings.bidirectional else 1
        shape = (len(u), len(self.scans), directions, self.settings.layers, self.values, self.settings.nodes)
        blocks = out.view(shape)
        for number, (scan, kernels) in enumerate(zip(self.scans, self.kernels, strict=True)):
            for direction in range(directions):
                # Steps first and in the kernel's number format: each step then reads contiguous memory.
                inputs = scan.read(u, ends, turned=bool(direction)).transpose(0, 1)
                inputs = inputs[: lengths[0] if lengths else None].to(self.dtype).contiguous()
                self._run_scan(scan, kernels, inputs, blocks[:, number, direction], lengths, noise, number)

    def _run_scan(
        self,
        scan: Scan,
        kernels: Sequence[Kernel],
        u: Tensor,
        out: Tensor,
        lengths: list[int],
        noise: SampleNoise | None,
        number: int,
    ) -> None:
        """Run the stacked reservoirs of a scan over its inputs, shape (steps, batch, features)."""
        steps, rows = len(u), len(out)
        reductions = [
            JoinedReductions(self.settings, out[:, layer], steps, lengths or None) for layer in range(len(kernels))
        ]
        reads_sequences = kernels[0].begin_sequences(u, scan.window)
        for kernel in kernels[reads_sequences:]:
            kernel.begin(rows)
        for step in range(steps):
            while lengths and lengths[rows - 1] <= step:
                rows -= 1
            inputs = [] if reads_sequences else scan.at(u, step, rows)
            for layer, (kernel, reduction) in enumerate(zip(kernels, reductions, strict=True)):
                drawn = None
                if noise is not None:
                    part = number * self.settings.layers + layer
                    drawn = noise.normal(step, part, self.settings.nodes, rows).mul_(self.settings.noise)
                state = kernel.step(inputs, drawn) if inputs else kernel.advance(rows, drawn)
                reduction.take(step, state, rows)
                inputs = [state[:rows]]
        for reduction in reductions:
            reduction.finish()
        for kernel in kernels:
            kernel.end()
