"""Learning the biases of random convolution kernels: quantiles of their outputs on training series, without labels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.kernel_outputs import KERNELS, Block
from rcdp_hpc.networks.kernels import RandomKernels, dilations_for, input_of

# Quantiles follow from multiples of it, modulo 1: any number of them lies evenly between 0 and 1.
GOLDEN = (5**0.5 - 1) / 2


@torch.no_grad()
def learn(kernels: RandomKernels, series: Tensor, lengths: ArrayLike | None, seed: int) -> None:
    """Learn dilations and biases.

    Dilations follow from the median length. The biases of a kernel with one dilation are quantiles of its output on
    one of the series, as in MiniRocket.

    Parameters
    ----------
    kernels : RandomKernels
        On the CPU; its values are overwritten.
    series : torch.Tensor, shape (rows, steps, channels), float32
        Training series.
    lengths : array of int, shape (rows,), optional
        Steps of each; without it all are whole.
    seed : int
        Of the series that each kernel takes.

    Raises
    ------
    InputError
        If a series holds a value that is not finite.
    """
    rows, steps, _ = series.shape
    own = np.full(rows, steps) if lengths is None else np.asarray(lengths, dtype=np.int64)
    inside = torch.arange(steps)[:, None] < torch.from_numpy(own)
    laid = series.permute(2, 1, 0).float().masked_fill(~inside, 0)
    if not torch.isfinite(laid).all():
        raise InputError("extractor.kind = 'kernels': training samples hold values that are not finite")
    random = np.random.default_rng(seed)
    start, number = 0, 0
    for place, share in enumerate(kernels.shares):
        dilations = dilations_for(int(np.median(own)), share)
        kernels.dilations[start : start + share] = torch.from_numpy(dilations)
        block = Block(input_of(kernels.inputs[place], laid, inside), int(dilations[-1]))
        for group in kernels.groups(dilations.tolist()):
            chosen = np.array(group) + start
            taken = random.integers(rows, size=len(KERNELS))
            for first, outputs in block.outputs(int(dilations[group[0]]), kernels.subsets(place, group[0])):
                for kernel, found in enumerate(outputs, first):
                    row = taken[kernel]
                    levels = (np.arange(number + 1, number + 1 + len(chosen)) * GOLDEN) % 1
                    number += len(chosen)
                    biases = np.quantile(found[: own[row], row].astype(np.float64), levels)
                    kernels.biases[torch.from_numpy(chosen), kernel] = torch.from_numpy(biases).float()
        start += share
