"""The state engine: leaky reservoir states of many samples at once (eq. 9), in torch.

`rcdp_hpc.reservoir.sequence_run` drives the reservoirs over a block of sequences, `rcdp_hpc.reservoir.block_graph`
records that on GPUs. Nothing is differentiated here; `rcdp_hpc.reservoir.gradient` is the path for gradients.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.block_graph import BlockGraph, cuda_recorder
from rcdp_hpc.reservoir.connection import ReservoirMatrices, leak_rates, reservoir_matrices
from rcdp_hpc.reservoir.diagonal import diagonal_matrices
from rcdp_hpc.reservoir.gelfand import radius_on
from rcdp_hpc.reservoir.kept_steps import check_length, kept_steps, prepared_features
from rcdp_hpc.reservoir.kernels import Kernel, kernel_class, make_kernel
from rcdp_hpc.reservoir.kernels.diagonal import DiagonalKernel
from rcdp_hpc.reservoir.matrix_files import read_matrices
from rcdp_hpc.reservoir.random_streams import Part
from rcdp_hpc.reservoir.reductions import feature_shape
from rcdp_hpc.reservoir.scans import scans_of
from rcdp_hpc.reservoir.sequence_checks import CollectedChecks, check_input, check_states, checked_lengths
from rcdp_hpc.reservoir.sequence_run import SequenceRun
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.runtime.logs import warn_once
from rcdp_hpc.runtime.ram import is_out_of_memory

__all__ = ["Reservoir", "kept_steps"]

log = logging.getLogger(__name__)

DEFAULT_BATCH_ROWS = 512
# With a larger spectral radius and a leak of 1 a reservoir does not forget its past.
FAR_ABOVE_ONE = 1.5


class Reservoir:
    """A fixed random reservoir, or several that are stacked and next to each other.

    s_(t+1) = (1 - a) · s_t + a · f(C · s_t + W_in · u_t + b_in), s_0 = 0

    With ``layers = L``, layer l > 1 reads the states of the layer below. With ``scans``, each scan of the sequence has
    L layers with their own matrices. With ``bidirectional``, each reservoir is driven a second time by the reversed
    sequence. The features are joined in this order: scan, direction, layer, value, neuron.

    With ``kind = "diagonal"`` the equation is that of `rcdp_hpc.reservoir.diagonal` instead.

    Parameters
    ----------
    settings : ReservoirSection
        The section ``[reservoir]``, with a candidate's values applied.
    features : int
        Features per step of the input sequence.
    kernel : str
        A name of `rcdp_hpc.config.choices.KERNELS` except "auto", or module:Class: how the products are computed, and
        the number format of the features.
    device : str or torch.device
        Device that computes the states.
    matrices : ReservoirMatrices, optional
        Replace the matrices of the settings; for a single reservoir only.
    steps : int, optional
        Steps of the longest sequence. Needed if all states are kept.

    Attributes
    ----------
    nodes : int
    features : int
    inputs : int
        Features per step that drive the reservoir, including differences.
    sequencer : Sequencer
        Cuts raw samples into sequences.
    parts : int
        Number of reservoirs: scans times directions times layers.
    values : int
        Values per neuron.
    feature_shape : FeatureShape
        Order of the features in a row.
    width : int
        Length of a row: parts times values times nodes.
    batch_rows : int
        Samples that `compute` takes at a time.
    dtype : torch.dtype
        Number format of the features.
    matrices : list of list of ReservoirMatrices
        By scan and layer.
    rates : list of list of numpy.ndarray or None
        Leak rates of the neurons, by scan and layer; None if all have ``leak``.

    Raises
    ------
    CandidateError
        If the connection matrix cannot be scaled to its spectral radius, or does not fit into memory.
    InputError
        If there is no such kernel, a user's class breaks its contract, or the matrices have other shapes.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        features: int,
        kernel: str = "dense-fp32",
        device: str | torch.device = "cpu",
        matrices: ReservoirMatrices | None = None,
        steps: int | None = None,
    ) -> None:
        self.settings = settings
        self.features = features
        self.kernel = kernel
        self.nodes = settings.nodes
        self.inputs = prepared_features(settings, features)
        self.scans = scans_of(settings)
        self.sequencer = Sequencer.of(settings)
        self.directions = 2 if settings.bidirectional else 1
        self.feature_shape = feature_shape(settings, steps)
        self.parts = self.feature_shape.parts
        self.values = self.feature_shape.steps
        self.width = self.feature_shape.features
        self.batch_rows = settings.batch_rows or DEFAULT_BATCH_ROWS
        self.dtype = kernel_class(kernel).dtype
        self.device = torch.device(device)
        if settings.matrices and matrices is None:
            matrices = read_matrices(settings.matrices, self.nodes, self.scans[0].features(self.inputs))
        self.matrices = [[matrices]] if matrices is not None else self._draw_all()
        self.rates = [
            [leak_rates(settings, _part(scan, layer)) for layer in range(len(layers))]
            for scan, layers in enumerate(self.matrices)
        ]
        self._kernels = [
            [self._kernel(layer, leaks) for layer, leaks in zip(layers, rates, strict=True)]
            for layers, rates in zip(self.matrices, self.rates, strict=True)
        ]
        self._run = SequenceRun(settings, self.scans, self._kernels, self.values, self.dtype)
        self._graph = BlockGraph(cuda_recorder(self.device) if self._run.recordable else None)
        self._advise()

    def _draw_all(self) -> list[list[ReservoirMatrices]]:
        """Draw the matrices of every scan and layer; the first one has the random streams of a single reservoir."""
        matrices = []
        for number, scan in enumerate(self.scans):
            inputs = [scan.features(self.inputs)] + [self.nodes] * (self.settings.layers - 1)
            matrices.append([self._draw(number, layer, count) for layer, count in enumerate(inputs)])
        return matrices

    def _draw(self, scan: int, layer: int, features: int) -> ReservoirMatrices:
        settings = self.settings
        if (layer or scan) and settings.feature_scaling and (layer or features != self.matrices_width):
            settings = settings.model_copy(update={"feature_scaling": []})
        if settings.kind == "diagonal":
            return diagonal_matrices(settings, features, _part(scan, layer))
        return reservoir_matrices(settings, features, _part(scan, layer), radius_on(self.device))

    def _kernel(self, matrices: ReservoirMatrices, rates: NDArray[np.float64] | None) -> Kernel:
        if self.settings.kind == "diagonal":
            return DiagonalKernel(self.settings, matrices, rates, self.device, self.dtype)
        return make_kernel(self.kernel, self.settings, matrices, rates, self.device)

    @property
    def only_kernel(self) -> Kernel:
        """The kernel of a reservoir with one scan and one layer."""
        ((kernel,),) = self._kernels
        return kernel

    @property
    def matrices_width(self) -> int:
        """Inputs per step of the first reservoir."""
        return self.scans[0].features(self.inputs)

    def _advise(self) -> None:
        """Warn, once per process, of settings that are allowed but rarely intended."""
        settings = self.settings
        alike = settings.leak == 1 and settings.leak_low in (0, 1)
        recurrent = settings.kind == "random" and settings.scaling == "spectral_radius"
        if recurrent and alike and settings.spectral_radius > FAR_ABOVE_ONE:
            warn_once(
                log,
                "unstable",
                f"reservoir.spectral_radius = {settings.spectral_radius:g} with leak 1 is far above 1: such a "
                "reservoir is unstable, and its states depend on rounding; lower one of the two unless you intend this",
            )
        if self.nodes < self.features:
            warn_once(
                log,
                "few nodes",
                f"reservoir.nodes = {self.nodes} is fewer than the {self.features} features of a step: "
                "the states cannot represent the input; raise it unless this is intended",
            )

    @torch.no_grad()
    def states(
        self, u: Any, out: Tensor | None = None, lengths: ArrayLike | None = None, noisy: bool = False
    ) -> Tensor:
        """Drive the reservoir from s_0 = 0 and return the features of its states (eq. 9).

        s_(t+1) = (1 - a) · s_t + a · f(C · s_t + W_in · u_t + b_in)

        Parameters
        ----------
        u : torch.Tensor or numpy.ndarray, shape (batch, steps, features)
            Input sequences.
        out : torch.Tensor, shape (batch, width), optional
            Where the result is written, of the reservoir's dtype.
        lengths : array of int, shape (batch,), optional
            Steps of each sequence, 1 to steps. Values after its end are ignored: its last state is the one after its
            last step, and equally spaced states are spaced over its length.
        noisy : bool
            Add the noise of the settings inside f, for training samples.

        Returns
        -------
        torch.Tensor, shape (batch, width)
            Values by scan, direction and layer, then by step, earliest first.

        Raises
        ------
        InputError
            If the shape of `u` does not fit, or a sequence has fewer steps than states to keep.
        CandidateError
            If a value of `u` or a state is not finite. The message names the first such row. Within
            `rcdp_hpc.reservoir.sequence_checks.CollectedChecks.collecting` it is not raised.
        """
        u = torch.as_tensor(u, device=self.device)
        if u.ndim != 3 or u.shape[2] != self.features:
            raise InputError(f"sequences of shape {tuple(u.shape)}: expected (batch, steps, {self.features})")
        checked = None if lengths is None else checked_lengths(lengths, *u.shape[:2])
        if checked is not None and (checked == u.shape[1]).all():
            checked = None
        if "all" in self.settings.reduction and u.shape[1] > self.values:
            raise InputError(f"sequences of {u.shape[1]} steps: expected at most {self.values} (reduction = 'all')")
        check_input(u, None if checked is None else torch.from_numpy(checked).to(self.device))
        if out is None:
            out = torch.empty(len(u), self.width, dtype=self.dtype, device=self.device)
        largest = min(kernel.most_rows for kernels in self._kernels for kernel in kernels)
        for start in range(0, len(u), largest):
            rows = slice(start, start + largest)
            self._fill(u[rows], out[rows], None if checked is None else checked[rows], noisy)
        check_states(out)
        return out

    def drive(self, x: Any, lengths: ArrayLike | None = None, out: Tensor | None = None, noisy: bool = False) -> Tensor:
        """Cut raw samples into sequences and return the features of their states, as `states`.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, shape (batch, ...)
            Samples in a shape of `rcdp_hpc.reservoir.sequencing`.
        lengths : array of int, shape (batch,), optional
            Entries of each padded sample's first axis that hold data; None if no sample is padded.
        out, noisy
            As of `states`.

        Returns
        -------
        torch.Tensor, shape (batch, width)

        Raises
        ------
        InputError
            As `Sequencer.sequences`, `Sequencer.lengths` and `states`.
        CandidateError
            As `states`.
        """
        steps = None if lengths is None else self.sequencer.lengths(lengths)
        return self.states(self.sequencer.sequences(x), out, steps, noisy)

    def release(self) -> None:
        """Free the memory of a recorded block, after the last block of its shape."""
        self._graph.release()

    def _fill(self, u: Tensor, out: Tensor, lengths: NDArray[np.int64] | None, noisy: bool) -> None:
        """Compute the rows, in halves if they do not fit into the device's memory."""
        try:
            if lengths is None:
                self._graph.run(partial(self._run.compute, noisy=noisy), u, out, noisy)
            else:
                self._run.compute(u, out, lengths, noisy)
            return
        except (RuntimeError, MemoryError) as error:
            if len(u) < 2 or not is_out_of_memory(error):
                raise
        # Outside the except block: the traceback would keep the buffers that did not fit.
        self.release()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(u) // 2
        warn_once(
            log,
            "memory",
            f"{self.device}: the states of {len(u)} samples do not fit into memory: continuing with {half} at a time; "
            "set a smaller reservoir.batch_rows to avoid this",
        )
        for rows in (slice(0, half), slice(half, len(u))):
            self._fill(u[rows], out[rows], None if lengths is None else lengths[rows], noisy)

    def compute(
        self,
        x: Any,
        out: Tensor | None = None,
        advance: Callable[[int], object] | None = None,
        lengths: ArrayLike | None = None,
    ) -> Tensor:
        """Compute the features of many raw samples in fixed blocks of ``batch_rows`` rows.

        In addition to `out` it needs the memory of one block. The last block may be shorter.

        Parameters
        ----------
        x : array, shape (N, ...)
            Samples in a shape of `rcdp_hpc.reservoir.sequencing`. Any object with a shape whose slices of rows are
            NumPy arrays or tensors, such as an HDF5 dataset.
        out : torch.Tensor, shape (N, width), optional
            Where the result is written, of the reservoir's dtype and on its device.
        advance : callable, optional
            Called after each block with the number of its rows.
        lengths : array of int, shape (N,), optional
            As of `drive`.

        Returns
        -------
        torch.Tensor, shape (N, width)

        Raises
        ------
        InputError, CandidateError
            As of `drive`.
        """
        rows = x.shape[0]
        steps, features = self.sequencer.shape(x.shape[1:])
        if features != self.features:
            raise InputError(
                f"samples of shape {tuple(x.shape[1:])} give {features} features a step under "
                f"reservoir.sequence = {self.sequencer.order!r}, but the reservoir was built for {self.features}"
            )
        if lengths is None:
            check_length(self.settings, steps)
        if out is None:
            out = torch.empty(rows, self.width, dtype=self.dtype, device=self.device)
        checks: CollectedChecks[int] = CollectedChecks(self.device)
        for start in range(0, rows, self.batch_rows):
            stop = min(start + self.batch_rows, rows)
            with checks.collecting(start):
                self._compute_block(x, lengths, out, start)
            if advance is not None:
                advance(stop - start)
        self.release()
        for start in checks.suspects():
            self._compute_block(x, lengths, out, start)
        return out

    def _compute_block(self, x: Any, lengths: ArrayLike | None, out: Tensor, start: int) -> None:
        """Compute the block of `compute` that begins at a row; errors name this row."""
        rows = slice(start, start + self.batch_rows)
        block = torch.as_tensor(x[rows], device=self.device)
        try:
            self.drive(block, None if lengths is None else np.asarray(lengths)[rows], out[rows])
        except CandidateError as error:
            block_start = f"rows from {start}: " if start else ""
            raise CandidateError(f"{block_start}{error}") from None


def _part(scan: int, layer: int) -> Part:
    """Return the part of a reservoir for its random streams; the first one has those of a single reservoir."""
    return (scan, layer) if scan or layer else ()
