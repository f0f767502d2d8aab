"""Learning of the biases of random convolution kernels: quantiles of outputs on training series, without labels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.kernel_outputs import KERNELS, Block
from rcdp_hpc.networks.kernels import RandomKernels, dilations_for, input_of

# Multiples of this, modulo 1, are spread evenly over [0, 1) for any number of them.
GOLDEN = (5**0.5 - 1) / 2


@torch.no_grad()
def learn(kernels: RandomKernels, series: Tensor, lengths: ArrayLike | None, seed: int) -> None:
    """Learn dilations and biases.

    The dilations depend on the median length. The biases of a kernel with one dilation are quantiles of its output on
    one of the series, as in MiniRocket.

    Parameters
    ----------
    kernels : RandomKernels
        Kernels on the CPU; their biases and dilations are overwritten.
    series : torch.Tensor, shape (rows, steps, channels), float32
        Training series.
    lengths : array of int, shape (rows,), optional
        Steps of each series; default: all steps.
    seed : int
        Seed of the choice of a series for each kernel.

    Raises
    ------
    InputError
        If a series contains a value that is not finite.
    """
    rows, steps, _ = series.shape
    ends = np.full(rows, steps) if lengths is None else np.asarray(lengths, dtype=np.int64)
    inside = torch.arange(steps)[:, None] < torch.from_numpy(ends)
    blocked = series.permute(2, 1, 0).float().masked_fill(~inside, 0)
    if not torch.isfinite(blocked).all():
        raise InputError("extractor.kind = 'kernels': training samples contain values that are not finite")
    random = np.random.default_rng(seed)
    start, bias_count = 0, 0
    for input_number, count in enumerate(kernels.bias_counts):
        dilations = dilations_for(int(np.median(ends)), count)
        kernels.dilations[start : start + count] = torch.from_numpy(dilations)
        block = Block(input_of(kernels.inputs[input_number], blocked, inside), int(dilations[-1]))
        for group in kernels.groups(dilations.tolist()):
            chosen = np.array(group) + start
            drawn_rows = random.integers(rows, size=len(KERNELS))
            for first, outputs in block.outputs(int(dilations[group[0]]), kernels.subsets(input_number, group[0])):
                for kernel, output in enumerate(outputs, first):
                    row = drawn_rows[kernel]
                    levels = (np.arange(bias_count + 1, bias_count + 1 + len(chosen)) * GOLDEN) % 1
                    bias_count += len(chosen)
                    biases = np.quantile(output[: ends[row], row].astype(np.float64), levels)
                    kernels.biases[torch.from_numpy(chosen), kernel] = torch.from_numpy(biases).float()
        start += count
